//! Structured output: what a [`Constraint`](crate::Constraint) allows as the next token (llguidance).

mod compiler;
mod environment;
mod matcher;
mod watchdog;

pub use self::compiler::ConstraintCompiler;
pub use self::matcher::Matcher;

/// Why there is no matcher, or why it cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The schema, the expression or the grammar is wrong or too large: the caller's fault.
    #[error("{0}")]
    Invalid(String),
    /// The tokenizer cannot be constrained.
    #[error("this model's output cannot be constrained: {0}")]
    Tokenizer(String),
    /// The grammar does not allow the token, or became too complex for a step.
    #[error("the constraint cannot go on: {0}")]
    Stuck(String),
}
