//! Fair shares between principals: virtual token counters.
//!
//! As in "Fairness in Serving Large Language Models" (Sheng et al., OSDI 2024): every principal has a counter of the tokens that
//! were computed for it, and the one with the lowest counter is served next. A prompt token costs [`PROMPT_TOKEN`], an output token
//! [`OUTPUT_TOKEN`]; each [level](MAX_LEVEL) halves the cost, so a level doubles the share. A principal that has had nothing
//! waiting gains no credit meanwhile: its counter is raised to the lowest one of those that wait.
//!
//! Added to that rule: a running sequence counts as [`QUANTUM`] tokens more than were computed, so that slots are divided at once
//! and not only after the counters have moved apart.

use std::collections::HashMap;
use std::time::Duration;

use super::SeqId;

/// The highest level. A level is a priority, raised by the time for which the principal has had nothing running.
pub(super) const MAX_LEVEL: u8 = 9;
/// Cost of a prompt token.
pub(super) const PROMPT_TOKEN: u64 = 1;
/// Cost of an output token.
pub(super) const OUTPUT_TOKEN: u64 = 2;
/// What a running sequence counts in addition to its computed tokens.
pub(super) const QUANTUM: u64 = 64;
/// By how much the principal of a running sequence must be ahead before the sequence loses its slot to another principal.
pub(super) const LEAD: u64 = 16;
/// Maximum number of principals without sequences whose counters are kept.
const MAX_IDLE: usize = 256;

/// Identifies a principal while it has sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AccountId(usize);

/// What a sequence does, as far as shares depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Running,
    Paused,
}

/// Numbers of sequences by phase.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Phases {
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) paused: usize,
}

impl Phases {
    fn of(&mut self, phase: Phase) -> &mut usize {
        match phase {
            Phase::Waiting => &mut self.waiting,
            Phase::Running => &mut self.running,
            Phase::Paused => &mut self.paused,
        }
    }

    /// Number of sequences that take a place in the queue.
    pub(super) fn queued(self) -> usize {
        self.waiting + self.paused
    }

    fn all(self) -> usize {
        self.queued() + self.running
    }
}

/// One principal.
#[derive(Debug, Clone, Default)]
struct Account {
    /// `None`: the account is closed.
    principal: Option<String>,
    /// Cost of the tokens that were computed.
    counter: u64,
    /// Sum of the quanta of running sequences.
    reserved: u64,
    phases: Phases,
    /// Since when it has had sequences waiting and none running.
    starved_since: Option<Duration>,
    /// Rank and id of the waiting sequence that is first in rank, while it is looked for.
    head: Option<(i64, SeqId)>,
}

/// The counters of all principals.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares {
    accounts: Vec<Account>,
    ids: HashMap<String, AccountId>,
    total: Phases,
}

/// `cost` at `level`, in the unit of the counters.
pub(super) fn at_level(cost: u64, level: u8) -> u64 {
    cost.saturating_mul(1 << (MAX_LEVEL - level.min(MAX_LEVEL)))
}

impl Shares {
    /// Numbers of sequences of all principals.
    pub(super) fn total(&self) -> Phases {
        self.total
    }

    /// Number of sequences of a principal that take a place in the queue.
    pub(super) fn queued(&self, principal: &str) -> usize {
        self.ids.get(principal).map_or(0, |id| self.account(*id).phases.queued())
    }

    /// Adds a waiting sequence.
    pub(super) fn arrive(&mut self, principal: &str) -> AccountId {
        let id = match self.ids.get(principal) {
            Some(id) => *id,
            None => self.open(principal),
        };
        if self.account(id).phases.waiting == 0 {
            let reference = self.reference(id);
            let account = self.account_mut(id);
            account.counter = account.counter.max(reference);
        }
        self.account_mut(id).phases.waiting += 1;
        self.total.waiting += 1;
        id
    }

    /// Removes a sequence.
    pub(super) fn leave(&mut self, id: AccountId, phase: Phase, level: u8) {
        self.begin_or_end(id, phase, level, false);
        if self.total.all() == 0 {
            // Nobody competes.
            *self = Self::default();
        } else if self.account(id).phases.all() == 0 {
            let lowest = self.active().map(|(_, account)| account.counter).min();
            // A new account would get at least the same counter.
            if lowest.is_some_and(|lowest| self.account(id).counter <= lowest) {
                self.close(id);
            }
        }
    }

    /// A sequence of this level changes its phase.
    pub(super) fn change(&mut self, id: AccountId, from: Phase, to: Phase, level: u8) {
        self.begin_or_end(id, from, level, false);
        self.begin_or_end(id, to, level, true);
    }

    /// Charges computed tokens.
    pub(super) fn charge(&mut self, id: AccountId, level: u8, prompt_tokens: usize, output_tokens: usize) {
        let cost = prompt_tokens as u64 * PROMPT_TOKEN + output_tokens as u64 * OUTPUT_TOKEN;
        let account = self.account_mut(id);
        account.counter = account.counter.saturating_add(at_level(cost, level));
    }

    /// Notes which principals have nothing running.
    pub(super) fn note_starved(&mut self, now: Duration) {
        for account in &mut self.accounts {
            if account.phases.waiting > 0 && account.phases.running == 0 {
                account.starved_since.get_or_insert(now);
            } else {
                account.starved_since = None;
            }
        }
    }

    /// Since when the principal has had sequences waiting and none running.
    pub(super) fn starved_since(&self, id: AccountId) -> Option<Duration> {
        self.account(id).starved_since
    }

    /// Cost of the tokens that were computed.
    pub(super) fn counter(&self, id: AccountId) -> u64 {
        self.account(id).counter
    }

    /// The counter with the quanta of the running sequences. Of these, the principal with the highest loses a slot first.
    pub(super) fn position(&self, id: AccountId) -> u64 {
        let account = self.account(id);
        account.counter.saturating_add(account.reserved)
    }

    /// Finds the waiting sequence of each principal that is first in rank. `waiting` has account, rank and id of all that wait.
    pub(super) fn find_heads(&mut self, waiting: impl Iterator<Item = (AccountId, i64, SeqId)>) {
        for account in &mut self.accounts {
            account.head = None;
        }
        for (id, rank, seq) in waiting {
            let head = &mut self.account_mut(id).head;
            *head = Some(head.map_or((rank, seq), |before| before.min((rank, seq))));
        }
    }

    /// What [`Shares::find_heads`] found.
    pub(super) fn heads(&self) -> impl Iterator<Item = SeqId> {
        self.accounts.iter().filter_map(|account| account.head).map(|(_, seq)| seq)
    }

    /// Number of principals that are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The numbers of sequences and the reservation, for comparison with the sequences.
    #[cfg(test)]
    pub(super) fn state(&self, id: AccountId) -> (Phases, u64) {
        (self.account(id).phases, self.account(id).reserved)
    }

    fn begin_or_end(&mut self, id: AccountId, phase: Phase, level: u8, begins: bool) {
        let quantum = if phase == Phase::Running { at_level(QUANTUM, level) } else { 0 };
        let account = self.account_mut(id);
        let own = account.phases.of(phase);
        if begins {
            *own += 1;
            account.reserved += quantum;
            *self.total.of(phase) += 1;
        } else {
            debug_assert!(*own > 0 && account.reserved >= quantum);
            *own = own.saturating_sub(1);
            account.reserved = account.reserved.saturating_sub(quantum);
            let total = self.total.of(phase);
            *total = total.saturating_sub(1);
        }
    }

    /// The counter to which a principal is raised that had nothing waiting: the lowest of the others that wait, or, if none does, of
    /// the others that have any sequence.
    fn reference(&self, id: AccountId) -> u64 {
        let others = || self.active().filter(|(other, _)| *other != id).map(|(_, account)| account);
        let waiting = others().filter(|account| account.phases.waiting > 0).map(|account| account.counter);
        waiting.min().or_else(|| others().map(|account| account.counter).min()).unwrap_or(0)
    }

    fn active(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        self.known().filter(|(_, account)| account.phases.all() > 0)
    }

    /// Also the principals without sequences whose counters are kept.
    fn known(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        let open = self.accounts.iter().enumerate().filter(|(_, account)| account.principal.is_some());
        open.map(|(index, account)| (AccountId(index), account))
    }

    fn open(&mut self, principal: &str) -> AccountId {
        let idle = || self.known().filter(|(_, account)| account.phases.all() == 0);
        let lowest = idle().min_by_key(|(_, account)| account.counter).map(|(id, _)| id);
        if let Some(lowest) = lowest.filter(|_| idle().count() >= MAX_IDLE) {
            self.close(lowest);
        }
        let account = Account { principal: Some(principal.to_owned()), ..Account::default() };
        let id = match self.accounts.iter().position(|account| account.principal.is_none()) {
            Some(closed) => {
                self.accounts[closed] = account;
                AccountId(closed)
            }
            None => {
                self.accounts.push(account);
                AccountId(self.accounts.len() - 1)
            }
        };
        self.ids.insert(principal.to_owned(), id);
        id
    }

    fn close(&mut self, id: AccountId) {
        if let Some(principal) = self.account_mut(id).principal.take() {
            self.ids.remove(&principal);
        }
    }

    fn account(&self, id: AccountId) -> &Account {
        &self.accounts[id.0]
    }

    fn account_mut(&mut self, id: AccountId) -> &mut Account {
        &mut self.accounts[id.0]
    }
}
