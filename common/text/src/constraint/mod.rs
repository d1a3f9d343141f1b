//! Structured output: the next tokens that a [`Constraint`](crate::Constraint) allows, computed by llguidance.
//!
//! Constraints come from clients and may be built to be costly. Compiling one is bounded from its first byte: by the size of the
//! source, by the number of alternatives and derivatives, by the size of the tables, and by a time limit ([`CompileBudget`]). A
//! [`CompilePool`] compiles on threads of its own, with a bounded queue and a share per principal.

mod budget;
mod cache;
mod compiler;
mod environment;
mod lexer;
mod matcher;
mod pool;
mod schema;
mod source;
mod watchdog;

pub use self::budget::{COMPILE_LIMIT, CompileBudget};
pub use self::cache::PreparedConstraint;
pub use self::compiler::ConstraintCompiler;
pub use self::matcher::Matcher;
pub use self::pool::{CompileError, CompilePool, CompilePoolConfig, Compiling};
pub use self::schema::{Enforcement, guided_schema};
pub(crate) use self::source::MAX_SOURCE_BYTES;
pub use self::source::{regex_rule, rule_of};

/// Errors of compiling and following a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The schema, regular expression or grammar is invalid or too large: an error of the caller.
    #[error("{0}")]
    Invalid(String),
    /// The time limit of compiling has passed: an error of the caller.
    #[error("the constraint is too complex: compiling it takes longer than {} s", COMPILE_LIMIT.as_secs())]
    TooSlow,
    /// Nobody waits for the result any more.
    #[error("compiling the constraint was cancelled")]
    Cancelled,
    /// The tokenizer does not support constraints.
    #[error("this model's output cannot be constrained: {0}")]
    Tokenizer(String),
    /// The grammar does not allow the token, or a step is too complex.
    #[error("the constraint cannot be continued: {0}")]
    Stuck(String),
}

fn invalid(reason: &str) -> ConstraintError {
    ConstraintError::Invalid(reason.trim().to_owned())
}
