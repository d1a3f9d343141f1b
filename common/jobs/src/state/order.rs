//! The order of claims.
//!
//! Each principal has its own line of jobs. In a line, the job with the smallest `submitted − priority · ageing_step` is first:
//! one step of priority is worth one ageing step of waiting (60 s by default), and equal priorities are first in, first out.
//!
//! Of all lines, the one whose first job has the smallest `turn − priority · ageing_step` is served next. `turn` is the time at
//! which that job was submitted or its principal was last served, whichever is later; ties go to the principal that was served
//! longest ago.
//!
//! This guarantees, whatever others submit:
//! - **Ageing bound.** A job of priority `p` waits only behind jobs of its own principal that were submitted at most
//!   `(9 − p) · ageing_step` after it. Once it is first in its line and `(9 − p) · ageing_step` have passed since its turn
//!   began, at most one more job of each other principal is claimed before it. So no job starves; for priority 0 the bound is
//!   9 minutes by default.
//! - **Fairness.** At equal priority principals are served in turn, one job each, however many one of them has submitted.

use std::collections::{BTreeMap, HashMap};

use videosdgx_api::Priority;

use crate::Principal;

/// A job in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    enqueued: i64,
    priority: Priority,
}

#[derive(Debug, Clone, Default)]
struct Line {
    /// By (key, number).
    jobs: BTreeMap<(i64, u64), Entry>,
    /// Queue time and running number of the last claim; a principal without waiting jobs starts again.
    last_served: i64,
    last_claim: u64,
}

/// The jobs that can be claimed, in one line per principal.
#[derive(Debug, Clone)]
pub struct FairOrder {
    ageing_step: i64,
    lines: HashMap<Principal, Line>,
    queued: usize,
    claims: u64,
}

impl FairOrder {
    /// An empty order, in which one step of priority is worth `ageing_step` milliseconds.
    #[must_use]
    pub fn new(ageing_step: i64) -> Self {
        Self { ageing_step, lines: HashMap::new(), queued: 0, claims: 0 }
    }

    /// Number of jobs that can be claimed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queued
    }

    /// Whether no job can be claimed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Adds a job.
    pub fn insert(&mut self, principal: &Principal, number: u64, enqueued: i64, priority: Priority) {
        let key = (self.key(enqueued, priority), number);
        let line = self.lines.entry(principal.clone()).or_default();
        if line.jobs.insert(key, Entry { enqueued, priority }).is_none() {
            self.queued += 1;
        }
    }

    /// Removes a job; returns whether it was present.
    pub fn remove(&mut self, principal: &Principal, number: u64, enqueued: i64, priority: Priority) -> bool {
        let key = (self.key(enqueued, priority), number);
        let Some(line) = self.lines.get_mut(principal) else { return false };
        let found = line.jobs.remove(&key).is_some();
        if found {
            self.queued -= 1;
        }
        if line.jobs.is_empty() {
            self.lines.remove(principal);
        }
        found
    }

    /// Removes and returns the next job.
    pub fn pop(&mut self, now: i64) -> Option<u64> {
        let (principal, key) = self
            .lines
            .iter()
            .filter_map(|(principal, line)| {
                let (key, head) = line.jobs.first_key_value()?;
                Some(((self.turn(line, *head), line.last_claim, *key), principal))
            })
            .min_by_key(|(rank, _)| *rank)
            .map(|((_, _, key), principal)| (principal.clone(), key))?;
        self.claims += 1;
        let line = self.lines.get_mut(&principal)?;
        line.jobs.remove(&key);
        line.last_served = now;
        line.last_claim = self.claims;
        if line.jobs.is_empty() {
            self.lines.remove(&principal);
        }
        self.queued -= 1;
        Some(key.1)
    }

    /// Estimated number of jobs that are claimed before this one, if nothing else is submitted and a job is claimed every
    /// `claim_every` ms. Exact for its own line; other principals count with one job for each turn, and with further ones if
    /// their priority is higher.
    #[must_use]
    pub fn ahead(
        &self,
        principal: &Principal,
        number: u64,
        enqueued: i64,
        priority: Priority,
        claim_every: i64,
    ) -> u64 {
        let key = (self.key(enqueued, priority), number);
        let Some(own) = self.lines.get(principal) else { return 0 };
        let before_in_line = own.jobs.range(..key).count();
        let others = self.lines.iter().filter(|(other, _)| *other != principal).map(|(_, line)| {
            let head = line.jobs.first_key_value().map_or(priority, |(_, head)| head.priority);
            let steps = i64::from(head.get()) - i64::from(priority.get());
            let head_start = steps.max(0).saturating_mul(self.ageing_step) / claim_every.max(1);
            let turns = usize::try_from(head_start).unwrap_or(usize::MAX).saturating_add(before_in_line + 1);
            line.jobs.range(..key).take(turns).count()
        });
        (before_in_line + others.sum::<usize>()) as u64
    }

    fn key(&self, enqueued: i64, priority: Priority) -> i64 {
        enqueued.saturating_sub(self.ageing_step.saturating_mul(i64::from(priority.get())))
    }

    fn turn(&self, line: &Line, head: Entry) -> i64 {
        self.key(head.enqueued.max(line.last_served), head.priority)
    }
}
