//! Compiles constraints to matchers, within a budget and with a cache.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use llguidance::api::GrammarInit;
use llguidance::panic_utils::catch_unwind;
use llguidance::{ParserFactory, toktrie::TokEnv};

use super::budget::CompileBudget;
use super::cache::{Cache, PreparedConstraint};
use super::environment::environment;
use super::watchdog::Watchdog;
use super::{ConstraintError, Matcher, invalid, lexer, source};
use crate::{Constraint, Tokenizer};

/// Compiles constraints for one tokenizer. Clones share its cache.
#[derive(Clone)]
pub struct ConstraintCompiler {
    inner: Arc<Inner>,
}

struct Inner {
    tokens: TokEnv,
    factory: ParserFactory,
    watchdog: Arc<Watchdog>,
    cache: Cache,
}

impl std::fmt::Debug for ConstraintCompiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConstraintCompiler").finish_non_exhaustive()
    }
}

impl ConstraintCompiler {
    /// Builds the trie of the vocabulary (about 50 ms for 150,000 tokens). `end_tokens` are the ids that end an output.
    ///
    /// # Errors
    /// [`ConstraintError::Tokenizer`] when there is no end token.
    pub fn new(tokenizer: &Tokenizer, end_tokens: &[u32]) -> Result<Self, ConstraintError> {
        let tokens = environment(tokenizer, end_tokens)?;
        let mut factory = ParserFactory::new_simple(&tokens)
            .map_err(|error| ConstraintError::Tokenizer(error.to_string()))?;
        factory.quiet();
        let limits = factory.limits_mut();
        // About 2 kB each, so at most 100 MB.
        limits.max_lexer_states = 50_000;
        limits.max_grammar_size = 200_000;
        limits.verbose_errors = false;
        let watchdog = Watchdog::start().map_err(|error| ConstraintError::Tokenizer(error.to_string()))?;
        let inner = Inner { tokens, factory, watchdog: Arc::new(watchdog), cache: Cache::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Compiles a constraint to a matcher in its initial state, within the default budget. A [`PreparedConstraint`] that is held
    /// makes this quick.
    ///
    /// # Errors
    /// [`ConstraintError::Invalid`] or [`ConstraintError::TooSlow`].
    pub fn compile(&self, constraint: &Constraint) -> Result<Matcher, ConstraintError> {
        let prepared = self.prepare(constraint, &CompileBudget::default())?;
        prepared.matcher()
    }

    /// Compiles a constraint within `budget` and keeps the result for [`ConstraintCompiler::compile`].
    ///
    /// # Errors
    /// As [`ConstraintCompiler::compile`]; also [`ConstraintError::Cancelled`].
    pub fn prepare(
        &self,
        constraint: &Constraint,
        budget: &CompileBudget,
    ) -> Result<PreparedConstraint, ConstraintError> {
        if let Some(prepared) = self.prepared(constraint)? {
            return Ok(prepared);
        }
        let outcome = self.build(constraint, budget);
        let (outcome, bytes) = match outcome {
            Ok((matcher, bytes)) => (Ok(matcher), bytes),
            Err(error @ ConstraintError::Invalid(_)) => (Err(error), 0),
            // Depends on the load of the machine, not on the constraint alone.
            Err(error) => return Err(error),
        };
        let prepared = PreparedConstraint::new(source::key(constraint)?, outcome, bytes);
        self.inner.cache.insert(prepared.clone());
        prepared.check()?;
        Ok(prepared)
    }

    /// The result of an earlier compilation of this constraint.
    ///
    /// # Errors
    /// [`ConstraintError::Invalid`] for a constraint that is too large, or was found invalid before.
    pub fn prepared(&self, constraint: &Constraint) -> Result<Option<PreparedConstraint>, ConstraintError> {
        let Some(prepared) = self.inner.cache.get(&source::key(constraint)?) else { return Ok(None) };
        prepared.check()?;
        Ok(Some(prepared))
    }

    /// The matcher, and the size of its tables.
    fn build(
        &self,
        constraint: &Constraint,
        budget: &CompileBudget,
    ) -> Result<(Matcher, usize), ConstraintError> {
        budget.check()?;
        let grammar = GrammarInit::Serialized(source::grammar(constraint)?);
        let Inner { tokens, factory, watchdog, .. } = &*self.inner;
        let limits = factory.limits().clone();
        let (tokens, read) = (tokens.clone(), limits.clone());
        let (grammar, lexer) =
            catch_unwind(AssertUnwindSafe(move || grammar.to_internal(Some(tokens), read)))
                .map_err(|error| invalid(&first_line(&error.to_string())))?;
        budget.check()?;
        let mut bytes = 0;
        let checked = catch_unwind(AssertUnwindSafe(|| Ok(lexer::check(&lexer, &limits, budget))));
        bytes += checked.map_err(|error| invalid(&first_line(&error.to_string())))??;
        let parser = factory
            .create_parser_from_init_default(GrammarInit::Internal(grammar, lexer))
            .map_err(|error| invalid(&first_line(&error.to_string())))?;
        bytes = bytes.max(parser.parser.lexer_stats().num_bytes);
        if bytes > lexer::MAX_BYTES {
            let reason = format!("its tables take {bytes} bytes, more than {}", lexer::MAX_BYTES);
            return Err(invalid(&format!("the constraint is too complex: {reason}")));
        }
        budget.check()?;
        let matcher = llguidance::Matcher::new(Ok(parser)).into_cancellable();
        let mut matcher = Matcher::new(matcher, watchdog)?;
        // The first step computes most of what later steps need. It runs here and not in the engine, where it would delay all streams.
        matcher.warm_up(budget)?;
        Ok((matcher, bytes))
    }
}

/// The reason without the backtrace that llguidance appends to a panic.
fn first_line(reason: &str) -> String {
    match reason.split_once("<backtrace>") {
        Some((before, _)) => before.trim().to_owned(),
        None => reason.to_owned(),
    }
}
