//! Structured output: the next tokens that a [`Constraint`](crate::Constraint) allows, computed by llguidance.

mod compiler;
mod environment;
mod matcher;
mod watchdog;

pub use self::compiler::ConstraintCompiler;
pub use self::matcher::Matcher;

/// Errors of compiling and following a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The schema, regular expression or grammar is invalid or too large: an error of the caller.
    #[error("{0}")]
    Invalid(String),
    /// The tokenizer does not support constraints.
    #[error("this model's output cannot be constrained: {0}")]
    Tokenizer(String),
    /// The grammar does not allow the token, or a step is too complex.
    #[error("the constraint cannot be continued: {0}")]
    Stuck(String),
}
