//! Compiles constraints to matchers, within limits and with a cache.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use serde_json::Value;

use super::environment::environment;
use super::watchdog::Watchdog;
use super::{ConstraintError, Matcher};
use crate::{Constraint, Tokenizer};

/// Maximum size of a schema, regular expression or grammar, bytes.
const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Maximum nesting depth of a schema.
const MAX_DEPTH: usize = 64;
/// Number of compiled constraints in the cache.
const CACHE_SIZE: usize = 32;

/// Compiles constraints for one tokenizer. Clones share its cache.
#[derive(Clone)]
pub struct ConstraintCompiler {
    inner: Arc<Inner>,
}

struct Inner {
    factory: ParserFactory,
    watchdog: Arc<Watchdog>,
    /// Matchers in their initial state by source, most recently used last.
    cache: Mutex<VecDeque<(String, Matcher)>>,
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
        let environment = environment(tokenizer, end_tokens)?;
        let mut factory = ParserFactory::new_simple(&environment)
            .map_err(|error| ConstraintError::Tokenizer(error.to_string()))?;
        factory.quiet();
        let limits = factory.limits_mut();
        // About 2 kB each, so at most 100 MB.
        limits.max_lexer_states = 50_000;
        limits.max_grammar_size = 200_000;
        limits.verbose_errors = false;
        let watchdog = Watchdog::start().map_err(|error| ConstraintError::Tokenizer(error.to_string()))?;
        Ok(Self { inner: Arc::new(Inner { factory, watchdog: Arc::new(watchdog), cache: Mutex::default() }) })
    }

    /// Compiles a constraint to a matcher in its initial state.
    ///
    /// # Errors
    /// [`ConstraintError::Invalid`] with the reason.
    pub fn compile(&self, constraint: &Constraint) -> Result<Matcher, ConstraintError> {
        let key = key(constraint)?;
        if let Some(matcher) = self.cached(&key) {
            return Ok(matcher);
        }
        let parser = self
            .inner
            .factory
            .create_parser(grammar(constraint))
            .map_err(|error| invalid(&error.to_string()))?;
        let matcher = llguidance::Matcher::new(Ok(parser)).into_cancellable();
        let mut matcher = Matcher::new(matcher, &self.inner.watchdog)?;
        // The first step computes most of what later steps need. It runs here and not in the engine, where it would delay all streams.
        matcher.warm_up()?;
        let mut cache = self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() == CACHE_SIZE {
            cache.pop_front();
        }
        cache.push_back((key, matcher.detached()));
        drop(cache);
        Ok(matcher)
    }

    fn cached(&self, key: &str) -> Option<Matcher> {
        let mut cache = self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let index = cache.iter().position(|(cached, _)| cached == key)?;
        let entry = cache.remove(index)?;
        let matcher = entry.1.detached();
        cache.push_back(entry);
        Some(matcher)
    }
}

/// Checks the size of the constraint and returns its cache key.
fn key(constraint: &Constraint) -> Result<String, ConstraintError> {
    let (kind, source) = match constraint {
        Constraint::JsonObject => ("object", String::new()),
        Constraint::JsonSchema(schema) => {
            check_depth(schema)?;
            ("schema", schema.to_string())
        }
        Constraint::Regex(regex) => ("regex", regex.clone()),
        Constraint::Lark(grammar) => ("lark", grammar.clone()),
    };
    if source.len() > MAX_SOURCE_BYTES {
        return Err(invalid(&format!("{} bytes exceed the limit of {MAX_SOURCE_BYTES}", source.len())));
    }
    Ok(format!("{kind}:{source}"))
}

fn check_depth(schema: &Value) -> Result<(), ConstraintError> {
    let mut open = vec![(schema, 0)];
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(invalid(&format!("the schema is nested deeper than {MAX_DEPTH}")));
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => open.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

fn grammar(constraint: &Constraint) -> TopLevelGrammar {
    match constraint {
        Constraint::JsonObject => TopLevelGrammar::from_json_schema(serde_json::json!({"type": "object"})),
        Constraint::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema.clone()),
        Constraint::Regex(regex) => TopLevelGrammar::from_regex(regex),
        Constraint::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
    }
}

fn invalid(reason: &str) -> ConstraintError {
    ConstraintError::Invalid(reason.trim().to_owned())
}
