//! The scheduler's state and the events that change it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sequence::{Sequence, SequenceStatus};
#[cfg(test)]
use super::shares::{Phase, QUANTUM, at_level};
use super::shares::{Phases, Shares};
use super::{SchedulerConfig, SeqId, SequenceSpec};
use crate::CacheUsage;
use crate::cache::BlockManager;
use videosdgx_decoder_api::BLOCK_TOKENS;

/// How many of a queue's places one principal may take, as a multiple of the free ones: alone three quarters of the queue, and
/// some places stay free for others however many principals use up their shares.
const PLACES_PER_FREE_PLACE: usize = 3;

/// The queue, or a principal's share of it, is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull {
    /// Number of waiting and paused sequences, of the principal or of all.
    pub(crate) waiting: usize,
    /// The queue has places, but none for this principal.
    pub(crate) share: bool,
    /// Estimated time until a queue place is free.
    pub(crate) retry_after: Duration,
}

/// A sequence that the scheduler ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndedSequence {
    pub(crate) seq: SeqId,
    pub(crate) cause: EndCause,
}

/// Why the scheduler ended a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndCause {
    /// The deadline passed.
    Deadline,
    /// The reader read nothing for too long.
    SlowReader,
    /// The sequence does not fit into the cache, even alone.
    Memory,
    /// Its steps crashed twice.
    Crashes,
}

/// Result of a step for one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentDone {
    pub(crate) seq: SeqId,
    /// Number of leading tokens that are now in the cache.
    pub(crate) computed: usize,
    /// The sampled token, if the segment reached the end of the sequence.
    pub(crate) token: Option<u32>,
    /// Whether the sequence ends with this step.
    pub(crate) ends: bool,
}

/// Numbers of sequences by status, and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    pub(crate) paused: usize,
    pub(crate) prefix_queries: u64,
    pub(crate) prefix_hits: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) generated_tokens: u64,
    pub(crate) preemptions: u64,
}

/// The state machine. All times are durations since an epoch chosen by the caller.
#[derive(Debug, Clone)]
pub(crate) struct Scheduler {
    pub(super) config: SchedulerConfig,
    pub(super) sequences: BTreeMap<SeqId, Sequence>,
    pub(super) cache: BlockManager,
    /// Maximum number of cache blocks.
    pub(super) cache_limit: usize,
    pub(super) shares: Shares,
    pub(super) ended: Vec<EndedSequence>,
    pub(super) counts: Counts,
    /// Mean time between the ends of two sequences in seconds, and the time of the last end.
    departures: Option<(f64, Duration)>,
    next: u64,
}

impl Scheduler {
    /// A scheduler without sequences and cache blocks.
    pub(crate) fn new(config: SchedulerConfig) -> Self {
        Self {
            config,
            sequences: BTreeMap::new(),
            cache: BlockManager::new(),
            cache_limit: 0,
            shares: Shares::default(),
            ended: Vec::new(),
            counts: Counts::default(),
            departures: None,
            next: 0,
        }
    }

    /// Whether the queue accepts another sequence of this principal.
    pub(crate) fn has_queue_space(&self, principal: &str) -> bool {
        self.full_for(principal).is_none()
    }

    /// Why the queue accepts no further sequence of this principal.
    pub(crate) fn full_for(&self, principal: &str) -> Option<QueueFull> {
        let all = self.shares.total().queued();
        let own = self.shares.queued(principal);
        let free = self.config.queue_capacity.saturating_sub(all);
        let share = free > 0;
        if share && own < free.saturating_mul(PLACES_PER_FREE_PLACE) {
            return None;
        }
        let gap = self.departures.map_or(1.0, |(gap, _)| gap);
        let retry_after = Duration::from_secs(gap.ceil().clamp(1.0, 60.0) as u64);
        Some(QueueFull { waiting: if share { own } else { all }, share, retry_after })
    }

    /// Queues a new sequence.
    ///
    /// # Errors
    /// When the queue, or the principal's share of it, is full.
    pub(crate) fn submit(&mut self, now: Duration, spec: SequenceSpec) -> Result<SeqId, QueueFull> {
        debug_assert!(!spec.tokens.is_empty());
        if let Some(full) = self.full_for(&spec.principal) {
            return Err(full);
        }
        self.next += 1;
        let seq = SeqId(self.next);
        let account = self.shares.arrive(&spec.principal);
        self.sequences.insert(seq, Sequence::new(spec, account, now, self.config.ageing));
        Ok(seq)
    }

    /// Ends a sequence on request; `false` when it has ended already.
    pub(crate) fn cancel(&mut self, now: Duration, seq: SeqId) -> bool {
        self.remove(now, seq)
    }

    /// The reader is behind: pauses the sequence.
    pub(crate) fn reader_slow(&mut self, now: Duration, seq: SeqId) {
        self.set_status(seq, SequenceStatus::Paused { since: now });
    }

    /// The reader of a paused sequence has read an event: restarts its timeout.
    pub(crate) fn reader_progressed(&mut self, now: Duration, seq: SeqId) {
        if let Some(Sequence { status: SequenceStatus::Paused { since }, .. }) = self.sequences.get_mut(&seq)
        {
            *since = now;
        }
    }

    /// The reader has caught up. A sequence that still has its blocks continues at once, even beyond the number of slots (up to
    /// twice as many); one that lost its blocks waits for a slot.
    pub(crate) fn reader_ready(&mut self, seq: SeqId, max_running: usize) {
        let may_run = self.running() < 2 * max_running;
        if let Some(sequence) = self.sequences.get(&seq)
            && matches!(sequence.status, SequenceStatus::Paused { .. })
        {
            let complete = sequence.blocks.len() >= sequence.blocks_needed() || sequence.remaining() == 1;
            let runs = may_run && !sequence.blocks.is_empty() && complete;
            self.set_status(seq, if runs { SequenceStatus::Running } else { SequenceStatus::Waiting });
        }
    }

    /// Records a successful step. Sequences that have been removed meanwhile are skipped.
    pub(crate) fn step_done(&mut self, now: Duration, segments: &[SegmentDone]) {
        for done in segments {
            let Some(sequence) = self.sequences.get_mut(&done.seq) else { continue };
            sequence.crashes = 0;
            sequence.computed = done.computed;
            let of_prompt = sequence.take_newly_cached();
            self.counts.prompt_tokens += of_prompt as u64;
            // What a preempted sequence computes again costs its principal nothing.
            let of_output = usize::from(done.token.is_some());
            self.shares.charge(sequence.account, sequence.level, of_prompt, of_output);
            while sequence.published < sequence.computed / BLOCK_TOKENS {
                let index = sequence.published;
                if let Some(hash) = sequence.hash(index) {
                    self.cache.publish(sequence.blocks[index], hash);
                }
                sequence.published += 1;
            }
            if let Some(token) = done.token {
                sequence.tokens.push(token);
                self.counts.generated_tokens += 1;
            }
            if done.ends {
                self.remove(now, done.seq);
            }
        }
    }

    /// The model was loaded again, with an empty cache: all sequences must be recomputed.
    pub(crate) fn reset_cache(&mut self, cache_limit: usize, max_context: usize) {
        self.cache = BlockManager::new();
        self.cache_limit = cache_limit;
        for sequence in self.sequences.values_mut() {
            sequence.blocks.clear();
            sequence.computed = 0;
            sequence.published = 0;
            sequence.max_len = sequence.max_len.min(max_context);
            if sequence.status == SequenceStatus::Running {
                change(&mut self.shares, sequence, SequenceStatus::Waiting);
            }
        }
    }

    /// A step crashed. Each of its sequences is retried alone and ended after a second crash.
    pub(crate) fn step_crashed(&mut self, now: Duration, in_step: &[SeqId]) {
        for seq in in_step {
            let Some(sequence) = self.sequences.get_mut(seq) else { continue };
            sequence.crashes += 1;
            if sequence.crashes >= 2 {
                self.remove(now, *seq);
                self.ended.push(EndedSequence { seq: *seq, cause: EndCause::Crashes });
            }
        }
    }

    /// The cache could not grow beyond `capacity` blocks: makes that the limit and preempts sequences with blocks beyond it.
    pub(crate) fn growth_failed(&mut self, capacity: usize) {
        self.cache_limit = capacity;
        let beyond: Vec<SeqId> = self
            .sequences
            .iter()
            .filter(|(_, sequence)| sequence.blocks.iter().any(|block| *block as usize >= capacity))
            .map(|(seq, _)| *seq)
            .collect();
        for seq in beyond {
            self.preempt(seq);
        }
        self.cache.resize(capacity);
    }

    /// Number of blocks that the largest active sequence needs at its maximum length.
    pub(crate) fn largest_need(&self) -> usize {
        self.sequences.values().map(|sequence| sequence.max_len.div_ceil(BLOCK_TOKENS)).max().unwrap_or(0)
    }

    /// Sets the limit of the cache, but not below its current size.
    pub(crate) fn set_cache_limit(&mut self, blocks: usize) {
        self.cache_limit = blocks.max(self.cache.capacity());
    }

    /// Drops cached content and shrinks the cache to the blocks in use; returns its new size. Blocks in use cannot be moved: with
    /// `compact`, sequences that hold blocks far beyond the others are preempted, to be recomputed in lower blocks.
    pub(crate) fn shrink_cache(&mut self, compact: bool) -> usize {
        self.cache.drop_cached();
        let enough = 2 * self.cache.used();
        if compact && self.cache.min_capacity() > enough {
            let far: Vec<SeqId> = self
                .sequences
                .iter()
                .filter(|(_, sequence)| sequence.blocks.iter().any(|block| *block as usize >= enough))
                .map(|(seq, _)| *seq)
                .collect();
            for seq in far {
                self.preempt(seq);
            }
            self.cache.drop_cached();
        }
        self.cache.resize(0)
    }

    /// Preempts the last running sequence, unless it is the only one; whether it did.
    pub(crate) fn preempt_last(&mut self) -> bool {
        match self.last_running() {
            Some(seq) if self.running() > 1 => {
                self.preempt(seq);
                true
            }
            _ => false,
        }
    }

    /// The running sequence that yields first: the last in rank of the principal with the highest position.
    pub(super) fn last_running(&self) -> Option<SeqId> {
        self.sequences
            .iter()
            .filter(|(_, sequence)| sequence.status == SequenceStatus::Running)
            .max_by_key(|(seq, sequence)| (self.shares.position(sequence.account), sequence.rank, **seq))
            .map(|(seq, _)| *seq)
    }

    /// Ends sequences past their deadline or reader timeout.
    pub(crate) fn expire(&mut self, now: Duration) {
        let limit = self.config.slow_reader_limit;
        let late: Vec<EndedSequence> = self
            .sequences
            .iter()
            .filter_map(|(seq, sequence)| {
                let slow = |since: Duration| now >= since.saturating_add(limit);
                let cause = match sequence.status {
                    _ if sequence.deadline.is_some_and(|deadline| now >= deadline) => EndCause::Deadline,
                    SequenceStatus::Paused { since } if slow(since) => EndCause::SlowReader,
                    _ => return None,
                };
                Some(EndedSequence { seq: *seq, cause })
            })
            .collect();
        for ended in late {
            self.remove(now, ended.seq);
            self.ended.push(ended);
        }
    }

    /// Time of the next deadline or reader timeout.
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        let limit = self.config.slow_reader_limit;
        let of = |sequence: &Sequence| {
            let slow = match sequence.status {
                SequenceStatus::Paused { since } => Some(since.saturating_add(limit)),
                _ => None,
            };
            [sequence.deadline, slow].into_iter().flatten().min()
        };
        self.sequences.values().filter_map(of).min()
    }

    /// Takes the sequences that the scheduler has ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Vec<EndedSequence> {
        std::mem::take(&mut self.ended)
    }

    /// Whether the sequence is active.
    pub(crate) fn contains(&self, seq: SeqId) -> bool {
        self.sequences.contains_key(&seq)
    }

    /// All active sequences.
    pub(crate) fn sequence_ids(&self) -> Vec<SeqId> {
        self.sequences.keys().copied().collect()
    }

    /// Whether any sequence is waiting or running.
    pub(crate) fn has_work(&self) -> bool {
        let total = self.shares.total();
        total.waiting + total.running > 0
    }

    /// Number of running sequences.
    pub(crate) fn running(&self) -> usize {
        self.shares.total().running
    }

    /// Number of active sequences.
    pub(crate) fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Numbers of sequences by status, and counters.
    pub(crate) fn counts(&self) -> Counts {
        let Phases { running, waiting, paused } = self.shares.total();
        Counts { running, waiting, paused, ..self.counts }
    }

    /// Usage of the cache; `block_bytes` is 0.
    pub(crate) fn cache_usage(&self) -> CacheUsage {
        CacheUsage {
            capacity: self.cache.capacity(),
            limit: self.cache_limit,
            used: self.cache.used(),
            cached: self.cache.cached(),
            block_bytes: 0,
        }
    }

    /// Releases the blocks of a sequence, which is recomputed later; a running one waits again.
    pub(super) fn preempt(&mut self, seq: SeqId) {
        let Some(sequence) = self.sequences.get_mut(&seq) else { return };
        for block in sequence.blocks.drain(..).rev() {
            self.cache.release(block);
        }
        sequence.computed = 0;
        sequence.published = 0;
        if sequence.status == SequenceStatus::Running {
            change(&mut self.shares, sequence, SequenceStatus::Waiting);
            self.counts.preemptions += 1;
        }
    }

    pub(super) fn set_status(&mut self, seq: SeqId, status: SequenceStatus) {
        if let Some(sequence) = self.sequences.get_mut(&seq) {
            change(&mut self.shares, sequence, status);
        }
    }

    pub(super) fn remove(&mut self, now: Duration, seq: SeqId) -> bool {
        let Some(sequence) = self.sequences.remove(&seq) else { return false };
        self.shares.leave(sequence.account, sequence.status.phase(), sequence.level);
        for block in sequence.blocks.into_iter().rev() {
            self.cache.release(block);
        }
        self.departures = Some(match self.departures {
            None => (1.0, now),
            Some((gap, last)) => {
                let newest = now.saturating_sub(last).as_secs_f64().min(60.0);
                (gap + 0.2 * (newest - gap), now)
            }
        });
        true
    }

    /// Asserts that the shares count every sequence once.
    #[cfg(test)]
    pub(super) fn check_shares(&self) {
        for sequence in self.sequences.values() {
            let own = || self.sequences.values().filter(|other| other.account == sequence.account);
            let in_phase = |phase| own().filter(move |other| other.status.phase() == phase);
            let quanta: u64 = in_phase(Phase::Running).map(|other| at_level(QUANTUM, other.level)).sum();
            let (phases, reserved) = self.shares.state(sequence.account);
            assert_eq!(phases.running, in_phase(Phase::Running).count());
            assert_eq!(phases.waiting, in_phase(Phase::Waiting).count());
            assert_eq!(phases.paused, in_phase(Phase::Paused).count());
            assert_eq!(reserved, quanta);
        }
    }
}

/// Sets the status of a sequence of these shares.
pub(super) fn change(shares: &mut Shares, sequence: &mut Sequence, status: SequenceStatus) {
    shares.change(sequence.account, sequence.status.phase(), status.phase(), sequence.level);
    sequence.status = status;
}
