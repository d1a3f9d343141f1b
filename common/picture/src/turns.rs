//! The memory that all decodings together may take.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
};

/// Bytes that decodings may use at once. Those that do not fit wait, in the order in which they came.
pub(crate) struct Turns {
    total: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    used: u64,
    next: u64,
    waiting: VecDeque<u64>,
}

/// Bytes in use until it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    bytes: u64,
}

impl Turns {
    pub(crate) const fn new(total: u64) -> Self {
        let state = State { used: 0, next: 0, waiting: VecDeque::new() };
        Self { total, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits until `bytes` are free; more than the total counts as the total.
    pub(crate) fn take(&self, bytes: u64) -> Turn<'_> {
        let bytes = bytes.min(self.total);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let own = state.next;
        state.next += 1;
        state.waiting.push_back(own);
        let must_wait =
            |state: &mut State| state.waiting.front() != Some(&own) || state.used + bytes > self.total;
        let mut state = self.changed.wait_while(state, must_wait).unwrap_or_else(PoisonError::into_inner);
        state.waiting.pop_front();
        state.used += bytes;
        drop(state);
        // The next one may fit, too.
        self.changed.notify_all();
        Turn { turns: self, bytes }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.state.lock().unwrap_or_else(PoisonError::into_inner).used -= self.bytes;
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn small_ones_run_together_and_a_large_one_is_not_overtaken() {
        let turns = Turns::new(100);
        let (sender, order) = mpsc::sync_channel(2);
        let first = turns.take(40);
        let second = turns.take(40);
        std::thread::scope(|scope| {
            for (bytes, waiting) in [(1000, 1), (10, 2)] {
                let (turns, sender) = (&turns, sender.clone());
                scope.spawn(move || {
                    let turn = turns.take(bytes);
                    sender.send(bytes).unwrap();
                    drop(turn);
                });
                while turns.state.lock().unwrap().waiting.len() < waiting {
                    std::thread::yield_now();
                }
            }
            assert!(
                order.try_recv().is_err(),
                "the large one waits for all the room, the small one for the large one"
            );
            drop(first);
            assert!(order.try_recv().is_err());
            drop(second);
            assert_eq!(order.recv().unwrap(), 1000);
            assert_eq!(order.recv().unwrap(), 10);
        });
    }
}
