//! Checks a compiled constraint's regular expressions before llguidance builds its lexer from them, which it does without a limit.

use llguidance::api::ParserLimits;
use llguidance::derivre::{ExprRef, RegexBuilder};
use llguidance::earley::lexerspec::LexerSpec;

use super::budget::CompileBudget;
use super::{ConstraintError, invalid};

/// Maximum number of nodes that one derivative of all expressions creates. A sequence of `n` parts that may each be empty costs
/// `n² / 2`, so that about 600 are allowed.
const MAX_DERIVATIVE: u64 = 200_000;
/// Cost of the lexer's first transitions, in nodes.
const FUEL: u64 = 1_000_000;
/// Maximum size of the lexer's tables, bytes.
pub(super) const MAX_BYTES: usize = 48 << 20;

/// Computes the lexer's first transitions within `budget`; returns the size of its tables in bytes. llguidance computes the same
/// transitions later, without checking anything between them.
///
/// # Errors
/// [`ConstraintError::Invalid`] for a constraint that is too complex.
pub(super) fn check(
    lexer: &LexerSpec,
    limits: &ParserLimits,
    budget: &CompileBudget,
) -> Result<usize, ConstraintError> {
    check_derivative(&lexer.regex_builder, budget)?;
    let mut limits = limits.clone();
    let mut tables = lexer.to_regex_vec(&mut limits).map_err(|error| invalid(&error.to_string()))?;
    tables.set_fuel(FUEL);
    tables.set_max_states(limits.max_lexer_states);
    let start = tables.initial_state(&lexer.all_lexemes());
    for byte in 0..=u8::MAX {
        budget.check()?;
        tables.transition(start, byte);
        if let Some(error) = tables.get_error() {
            return Err(too_complex(&error));
        }
    }
    match tables.num_bytes() {
        bytes if bytes > MAX_BYTES => {
            Err(too_complex(&format!("its tables take {bytes} bytes, more than {MAX_BYTES}")))
        }
        bytes => Ok(bytes),
    }
}

/// Bounds the cost of one derivative, which cannot be interrupted: each part of a sequence that may be empty adds an alternative.
fn check_derivative(builder: &RegexBuilder, budget: &CompileBudget) -> Result<(), ConstraintError> {
    let expressions = builder.exprset();
    let mut samples = RegexBuilder::new();
    let mut sample = |regex: &str| -> Result<ExprRef, ConstraintError> {
        samples.mk_regex(regex).map_err(|error| invalid(&error.to_string()))
    };
    let (sequence, repeat) = (sample("[ab][cd]*")?, sample("[ab]*")?);
    let (sequence, repeat) = (samples.exprset().get_tag(sequence), samples.exprset().get_tag(repeat));
    let count = u32::try_from(expressions.len()).unwrap_or(u32::MAX);
    // Parts have smaller ids than what consists of them.
    let mut widths = vec![1_u64; count as usize];
    let mut total = 0_u64;
    for id in 1..count {
        if id % 4096 == 0 {
            budget.check()?;
        }
        let expression = ExprRef::new(id);
        if !expressions.is_valid(expression) {
            continue;
        }
        let tag = expressions.get_tag(expression);
        let parts = expressions.get_args(expression);
        let width = |part: &ExprRef| widths.get(part.as_usize()).copied().unwrap_or(1);
        let own = match parts {
            [first, rest] if tag == sequence => {
                1 + if expressions.is_nullable(*first) { width(rest) } else { 0 }
            }
            _ if tag == repeat || parts.is_empty() => 1,
            parts => parts.iter().map(width).fold(0, u64::saturating_add),
        };
        if let Some(width) = widths.get_mut(id as usize) {
            *width = own;
        }
        // Alternatives in the source are paid for by its length.
        total = total.saturating_add(if tag == sequence { own - 1 } else { 0 });
    }
    if total > MAX_DERIVATIVE {
        return Err(too_complex("it has too many parts in sequence that may be empty"));
    }
    Ok(())
}

fn too_complex(reason: &str) -> ConstraintError {
    invalid(&format!("the constraint is too complex: {reason}"))
}
