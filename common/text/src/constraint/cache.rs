//! Compiled constraints by the hash of their source.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ConstraintError, Matcher};

/// Maximum number of constraints that nobody uses.
const MAX_ENTRIES: usize = 64;
/// Maximum size of constraints that nobody uses, bytes.
const MAX_BYTES: usize = 192 << 20;

/// Hash of a constraint's kind and source.
pub(super) type Key = [u8; 32];

/// A compiled constraint. While it is held, the same constraint is not compiled again.
#[derive(Debug, Clone)]
pub struct PreparedConstraint(Arc<Entry>);

#[derive(Debug)]
struct Entry {
    key: Key,
    /// In its initial state, or why the constraint is invalid.
    outcome: Result<Mutex<Matcher>, ConstraintError>,
    bytes: usize,
}

impl PreparedConstraint {
    pub(super) fn new(key: Key, outcome: Result<Matcher, ConstraintError>, bytes: usize) -> Self {
        Self(Arc::new(Entry { key, outcome: outcome.map(Mutex::new), bytes }))
    }

    /// Why the constraint is invalid, if it is.
    pub(super) fn check(&self) -> Result<(), ConstraintError> {
        self.0.outcome.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// A matcher in its initial state.
    pub(super) fn matcher(&self) -> Result<Matcher, ConstraintError> {
        let matcher = self.0.outcome.as_ref().map_err(Clone::clone)?;
        Ok(matcher.lock().unwrap_or_else(PoisonError::into_inner).detached())
    }
}

/// Most recently used last.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<VecDeque<PreparedConstraint>>);

impl Cache {
    pub(super) fn get(&self, key: &Key) -> Option<PreparedConstraint> {
        let mut entries = self.lock();
        let index = entries.iter().position(|entry| entry.0.key == *key)?;
        let entry = entries.remove(index)?;
        entries.push_back(entry.clone());
        Some(entry)
    }

    /// Adds an entry, and drops the oldest ones that nobody uses when there are too many.
    pub(super) fn insert(&self, entry: PreparedConstraint) {
        let mut entries = self.lock();
        entries.push_back(entry);
        let unused = |entry: &PreparedConstraint| Arc::strong_count(&entry.0) == 1;
        let mut count = entries.iter().filter(|entry| unused(entry)).count();
        let mut bytes: usize = entries.iter().filter(|entry| unused(entry)).map(|entry| entry.0.bytes).sum();
        entries.retain(|entry| {
            let keep = !unused(entry) || (count <= MAX_ENTRIES && bytes <= MAX_BYTES);
            if !keep {
                count -= 1;
                bytes -= entry.0.bytes;
            }
            keep
        });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<PreparedConstraint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
