//! Places (for requests in flight, for open WebSockets) with a limit in total and one for each holder.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts places in use against a limit in total and a limit for each holder.
pub(crate) struct Shares<K> {
    max: usize,
    max_each: usize,
    used: Mutex<Used<K>>,
}

struct Used<K> {
    total: usize,
    by_holder: HashMap<K, usize>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// That of all holders together.
    Total,
    /// That of this holder, with the limit.
    Holder(usize),
}

/// One place, returned when it is dropped.
pub(crate) struct Place<K: Eq + Hash> {
    shares: Arc<Shares<K>>,
    holder: K,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    pub(crate) fn new(max: usize, max_each: usize) -> Arc<Self> {
        let used = Used { total: 0, by_holder: HashMap::new() };
        Arc::new(Self { max, max_each, used: Mutex::new(used) })
    }

    /// A place for `holder`; fails at once when a limit is reached.
    pub(crate) fn acquire(self: &Arc<Self>, holder: K) -> Result<Place<K>, Full> {
        let mut used = self.used();
        if used.total >= self.max {
            return Err(Full::Total);
        }
        let own = used.by_holder.entry(holder.clone()).or_insert(0);
        if *own >= self.max_each {
            return Err(Full::Holder(self.max_each));
        }
        *own += 1;
        used.total += 1;
        drop(used);
        Ok(Place { shares: Arc::clone(self), holder })
    }

    /// Number of places in use.
    pub(crate) fn count(&self) -> usize {
        self.used().total
    }
}

impl<K> Shares<K> {
    fn used(&self) -> MutexGuard<'_, Used<K>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut used = self.shares.used();
        used.total -= 1;
        if let Some(own) = used.by_holder.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                used.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_total_and_for_each_holder() {
        let shares = Shares::new(3, 2);
        let first = shares.acquire("ada").ok().unwrap();
        let _second = shares.acquire("ada").ok().unwrap();
        assert_eq!(shares.acquire("ada").err(), Some(Full::Holder(2)));
        let third = shares.acquire("bob").ok().unwrap();
        assert_eq!(shares.acquire("bob").err(), Some(Full::Total));
        drop(first);
        assert!(shares.acquire("ada").is_ok());
        drop(third);
        assert_eq!((shares.count(), shares.used().by_holder.len()), (1, 1));
    }
}
