//! A semaphore whose waiters are ordered by priority.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

/// A bounded number of slots.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    arrivals: u64,
    /// Highest priority first, then by arrival.
    waiting: BTreeMap<(Reverse<u8>, u64), oneshot::Sender<Slot>>,
}

/// A slot; released when dropped.
#[derive(Debug)]
pub(super) struct Slot(Option<Arc<Mutex<State>>>);

impl Slots {
    pub(super) fn new(slots: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: slots.max(1), arrivals: 0, waiting: BTreeMap::new() })))
    }

    /// Waits for a slot; dropping the future ends the wait.
    pub(super) async fn take(&self, priority: u8) -> Slot {
        loop {
            let granted = {
                let mut state = lock(&self.0);
                if state.free > 0 {
                    state.free -= 1;
                    return Slot(Some(Arc::clone(&self.0)));
                }
                let (grant, granted) = oneshot::channel();
                state.arrivals += 1;
                let arrival = state.arrivals;
                if state.waiting.len() % 64 == 63 {
                    state.waiting.retain(|_, grant| !grant.is_canceled());
                }
                state.waiting.insert((Reverse(priority), arrival), grant);
                granted
            };
            // The sender stays in the map until it grants a slot, so this does not fail; if it did, queue again.
            if let Ok(slot) = granted.await {
                return slot;
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.0).waiting.values().filter(|grant| !grant.is_canceled()).count()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(slots) = self.0.take() else { return };
        loop {
            let mut state = lock(&slots);
            let Some((_, grant)) = state.waiting.pop_first() else {
                state.free += 1;
                return;
            };
            drop(state);
            match grant.send(Self(Some(Arc::clone(&slots)))) {
                Ok(()) => return,
                // This waiter has been dropped: the slot goes to the next.
                Err(mut refused) => refused.0 = None,
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, executor::block_on};

    #[test]
    fn slots_go_by_priority_then_by_arrival_and_skip_dropped_waiters() {
        let slots = Slots::new(1);
        let held = block_on(slots.take(5));
        let mut low = Box::pin(slots.take(1));
        let mut left = Box::pin(slots.take(9));
        let mut high = Box::pin(slots.take(9));
        assert!((&mut low).now_or_never().is_none());
        assert!((&mut left).now_or_never().is_none());
        assert!((&mut high).now_or_never().is_none());
        drop(left);
        assert_eq!(slots.waiting(), 2);
        drop(held);
        let high = high.now_or_never().expect("the highest priority gets the slot");
        assert!((&mut low).now_or_never().is_none());
        drop(high);
        drop(low.now_or_never().expect("then the lowest"));
        drop(block_on(slots.take(0)));
    }

    #[test]
    fn a_slot_granted_to_a_dropped_waiter_is_released() {
        let slots = Slots::new(1);
        let held = block_on(slots.take(5));
        let mut waiting = Box::pin(slots.take(5));
        assert!((&mut waiting).now_or_never().is_none());
        drop(held);
        drop(waiting);
        assert!(slots.take(5).now_or_never().is_some());
    }
}
