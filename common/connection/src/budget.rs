//! The bytes of request bodies that a process holds at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Leases grow in steps of this many bytes, so that few of them take the lock.
const STEP: usize = 64 * 1024;

/// A limit on the bytes of request bodies in memory: in total, and for each principal.
#[derive(Debug)]
pub struct BodyBudget {
    total: usize,
    per_principal: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_principal: HashMap<Arc<str>, usize>,
}

/// Which limit of a [`BodyBudget`] is reached; with the limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetExceeded {
    /// That of this principal.
    Principal(usize),
    /// That of all principals together.
    Total(usize),
}

impl BodyBudget {
    /// A budget of `total` bytes, of which one principal may hold `per_principal`.
    #[must_use]
    pub fn new(total: usize, per_principal: usize) -> Arc<Self> {
        Arc::new(Self { total, per_principal: per_principal.min(total), held: Mutex::default() })
    }

    /// Bytes of all leases now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// A lease of no bytes yet.
    #[must_use]
    pub fn lease(self: &Arc<Self>, principal: Arc<str>) -> BodyLease {
        BodyLease { budget: Arc::clone(self), principal, bytes: 0 }
    }
}

/// Bytes held by one request; returned to the budget when it is dropped.
#[derive(Debug)]
pub struct BodyLease {
    budget: Arc<BodyBudget>,
    principal: Arc<str>,
    bytes: usize,
}

impl BodyLease {
    /// Holds at least `bytes` bytes from now on.
    ///
    /// # Errors
    /// When a limit is reached; the lease stays as it is.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let BodyBudget { total, per_principal, .. } = *self.budget;
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.by_principal.get(&self.principal).copied().unwrap_or_default();
        let room = (per_principal - own).min(total - held.total);
        let needed = bytes - self.bytes;
        if needed > per_principal - own {
            return Err(BudgetExceeded::Principal(per_principal));
        }
        if needed > room {
            return Err(BudgetExceeded::Total(total));
        }
        let more = needed.next_multiple_of(STEP).min(room);
        held.total += more;
        *held.by_principal.entry(Arc::clone(&self.principal)).or_default() += more;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for BodyLease {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= self.bytes;
        if let Some(own) = held.by_principal.get_mut(&self.principal) {
            *own -= self.bytes;
            if *own == 0 {
                held.by_principal.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_cannot_take_what_belongs_to_the_others() {
        let budget = BodyBudget::new(100 * STEP, 60 * STEP);
        let (ada, bob): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
        let mut first = budget.lease(Arc::clone(&ada));
        first.grow_to(50 * STEP).unwrap();
        let mut second = budget.lease(Arc::clone(&ada));
        assert_eq!(second.grow_to(10 * STEP + 1), Err(BudgetExceeded::Principal(60 * STEP)));
        second.grow_to(10 * STEP).unwrap();
        let mut third = budget.lease(Arc::clone(&bob));
        third.grow_to(1).unwrap();
        third.grow_to(40 * STEP).unwrap();
        assert_eq!(third.grow_to(40 * STEP + 1), Err(BudgetExceeded::Total(100 * STEP)));
        drop((first, second));
        third.grow_to(60 * STEP).unwrap();
        assert_eq!(budget.held(), 60 * STEP);
        drop(third);
        let held = budget.held.lock().unwrap();
        assert_eq!((held.total, held.by_principal.len()), (0, 0));
    }
}
