//! Sequences and what happens to them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fairness::Fairness;
use super::sequence::{Sequence, SequenceStatus};
use super::{SchedulerConfig, SeqId, SequenceSpec};
use crate::CacheUsage;
use crate::cache::BlockManager;
use videosdgx_decoder_api::BLOCK_TOKENS;

/// As many sequences wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull {
    /// How many wait.
    pub(crate) waiting: usize,
    /// When a place is likely.
    pub(crate) retry_after: Duration,
}

/// A sequence that the scheduler ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndedSequence {
    pub(crate) seq: SeqId,
    pub(crate) cause: EndCause,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndCause {
    /// Its deadline passed.
    Deadline,
    /// Its reader took nothing for too long.
    SlowReader,
    /// It does not fit into the cache, even alone.
    Memory,
    /// It took the process down twice.
    Crashes,
}

/// What a step did for one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentDone {
    pub(crate) seq: SeqId,
    /// So many of its tokens are in the cache now.
    pub(crate) computed: usize,
    /// The token that was chosen, when all of them are.
    pub(crate) token: Option<u32>,
    /// The sequence ends with this step.
    pub(crate) ends: bool,
}

/// How many stand where, and what was counted.
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

/// The state machine. All times are durations since one epoch of the caller's.
#[derive(Debug, Clone)]
pub(crate) struct Scheduler {
    pub(super) config: SchedulerConfig,
    pub(super) sequences: BTreeMap<SeqId, Sequence>,
    pub(super) cache: BlockManager,
    /// Most blocks there may be.
    pub(super) cache_limit: usize,
    pub(super) fairness: Fairness,
    pub(super) ended: Vec<EndedSequence>,
    pub(super) counts: Counts,
    /// Mean time between two ends, seconds, and the newest end.
    departures: Option<(f64, Duration)>,
    next: u64,
}

impl Scheduler {
    /// Without sequences and without cache.
    pub(crate) fn new(config: SchedulerConfig) -> Self {
        Self {
            config,
            sequences: BTreeMap::new(),
            cache: BlockManager::new(),
            cache_limit: 0,
            fairness: Fairness::default(),
            ended: Vec::new(),
            counts: Counts::default(),
            departures: None,
            next: 0,
        }
    }

    /// Whether one more may wait.
    pub(crate) fn has_queue_space(&self) -> bool {
        self.not_running() < self.config.queue_capacity
    }

    /// Takes a new sequence.
    ///
    /// # Errors
    /// When the queue is full.
    pub(crate) fn submit(&mut self, now: Duration, spec: SequenceSpec) -> Result<SeqId, QueueFull> {
        debug_assert!(!spec.tokens.is_empty());
        if !self.has_queue_space() {
            let gap = self.departures.map_or(1.0, |(gap, _)| gap);
            let retry_after = Duration::from_secs(gap.ceil().clamp(1.0, 60.0) as u64);
            return Err(QueueFull { waiting: self.not_running(), retry_after });
        }
        self.next += 1;
        let seq = SeqId(self.next);
        self.sequences.insert(seq, Sequence::new(spec, now, self.config.ageing));
        Ok(seq)
    }

    /// Ends a sequence from outside; whether it was alive.
    pub(crate) fn cancel(&mut self, now: Duration, seq: SeqId) -> bool {
        self.remove(now, seq)
    }

    /// The reader is behind: the sequence pauses until it has caught up. A sequence that is paused already stays so.
    pub(crate) fn reader_slow(&mut self, now: Duration, seq: SeqId) {
        if let Some(sequence) = self.sequences.get_mut(&seq) {
            sequence.status = SequenceStatus::Paused { since: now };
        }
    }

    /// The reader is behind, but it reads: its time begins anew.
    pub(crate) fn reader_progressed(&mut self, now: Duration, seq: SeqId) {
        if let Some(Sequence { status: SequenceStatus::Paused { since }, .. }) = self.sequences.get_mut(&seq)
        {
            *since = now;
        }
    }

    /// The reader has caught up. A sequence that still has its blocks goes on at once, beyond the number of places if need be
    /// (at most twice as many run); one that lost them waits for a place.
    pub(crate) fn reader_ready(&mut self, seq: SeqId, max_running: usize) {
        let may_run = self.running() < 2 * max_running;
        if let Some(sequence) = self.sequences.get_mut(&seq)
            && matches!(sequence.status, SequenceStatus::Paused { .. })
        {
            let complete = sequence.blocks.len() >= sequence.blocks_needed() || sequence.remaining() == 1;
            let runs = may_run && !sequence.blocks.is_empty() && complete;
            sequence.status = if runs { SequenceStatus::Running } else { SequenceStatus::Waiting };
        }
    }

    /// A step has ended well. Sequences that are gone meanwhile are passed over.
    pub(crate) fn step_done(&mut self, now: Duration, segments: &[SegmentDone]) {
        for done in segments {
            let Some(sequence) = self.sequences.get_mut(&done.seq) else { continue };
            sequence.crashes = 0;
            sequence.computed = done.computed;
            self.counts.prompt_tokens += sequence.newly_known() as u64;
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

    /// The model (and its cache) is another one now: everything is computed anew.
    pub(crate) fn cache_lost(&mut self, cache_limit: usize, max_context: usize) {
        self.cache = BlockManager::new();
        self.cache_limit = cache_limit;
        for sequence in self.sequences.values_mut() {
            sequence.blocks.clear();
            sequence.computed = 0;
            sequence.published = 0;
            sequence.max_len = sequence.max_len.min(max_context);
            if sequence.status == SequenceStatus::Running {
                sequence.status = SequenceStatus::Waiting;
            }
        }
    }

    /// A step took the process's model down. Who was in it is tried once more, alone; the second time it ends.
    pub(crate) fn crashed(&mut self, now: Duration, in_step: &[SeqId]) {
        for seq in in_step {
            let Some(sequence) = self.sequences.get_mut(seq) else { continue };
            sequence.crashes += 1;
            if sequence.crashes >= 2 {
                self.remove(now, *seq);
                self.ended.push(EndedSequence { seq: *seq, cause: EndCause::Crashes });
            }
        }
    }

    /// The cache could not grow beyond `capacity` blocks: that is the limit from now on, and who holds blocks beyond it waits.
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

    /// Blocks that the largest live sequence may come to need.
    pub(crate) fn largest_need(&self) -> usize {
        self.sequences.values().map(|sequence| sequence.max_len.div_ceil(BLOCK_TOKENS)).max().unwrap_or(0)
    }

    /// Sets how far the cache may grow; what there is stays.
    pub(crate) fn set_cache_limit(&mut self, blocks: usize) {
        self.cache_limit = blocks.max(self.cache.capacity());
    }

    /// Lets go of what is only kept for its content and of all blocks that are not needed; gives how many blocks stay. Held blocks
    /// cannot be moved: with `compact`, who holds blocks far behind the others is put back and computed again further ahead.
    pub(crate) fn shrink_cache(&mut self, compact: bool) -> usize {
        self.cache.drop_cached();
        let enough = 2 * self.cache.used();
        if compact && self.cache.least_capacity() > enough {
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

    /// Preempts the running sequence that came last in rank, if another one runs; whether it did.
    pub(crate) fn preempt_last(&mut self) -> bool {
        let last = self.sequences.iter().filter(|(_, sequence)| sequence.status == SequenceStatus::Running);
        match last.max_by_key(|(seq, sequence)| (sequence.rank, **seq)).map(|(seq, _)| *seq) {
            Some(seq) if self.running() > 1 => {
                self.preempt(seq);
                true
            }
            _ => false,
        }
    }

    /// Ends what is past its deadline, and who waits too long for its reader.
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

    /// When [`Scheduler::expire`] has something to do, if nothing else happens.
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

    /// Who was ended since this was last asked.
    pub(crate) fn take_ended(&mut self) -> Vec<EndedSequence> {
        std::mem::take(&mut self.ended)
    }

    /// Whether it is alive.
    pub(crate) fn contains(&self, seq: SeqId) -> bool {
        self.sequences.contains_key(&seq)
    }

    /// All live sequences.
    pub(crate) fn sequence_ids(&self) -> Vec<SeqId> {
        self.sequences.keys().copied().collect()
    }

    /// Whether a step could do something.
    pub(crate) fn has_work(&self) -> bool {
        self.sequences.values().any(|sequence| !matches!(sequence.status, SequenceStatus::Paused { .. }))
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.count_with(|status| status == SequenceStatus::Running)
    }

    /// How many are alive.
    pub(crate) fn len(&self) -> usize {
        self.sequences.len()
    }

    /// How many stand where, and what was counted.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            running: self.running(),
            waiting: self.count_with(|status| status == SequenceStatus::Waiting),
            paused: self.count_with(|status| matches!(status, SequenceStatus::Paused { .. })),
            ..self.counts
        }
    }

    /// The cache, without the size of a block.
    pub(crate) fn cache_usage(&self) -> CacheUsage {
        CacheUsage {
            capacity: self.cache.capacity(),
            limit: self.cache_limit,
            used: self.cache.used(),
            cached: self.cache.cached(),
            block_bytes: 0,
        }
    }

    /// Takes a sequence's blocks from it, to be computed anew; a running one waits again.
    pub(super) fn preempt(&mut self, seq: SeqId) {
        let Some(sequence) = self.sequences.get_mut(&seq) else { return };
        for block in sequence.blocks.drain(..).rev() {
            self.cache.release(block);
        }
        sequence.computed = 0;
        sequence.published = 0;
        if sequence.status == SequenceStatus::Running {
            sequence.status = SequenceStatus::Waiting;
            self.counts.preemptions += 1;
        }
    }

    pub(super) fn remove(&mut self, now: Duration, seq: SeqId) -> bool {
        let Some(sequence) = self.sequences.remove(&seq) else { return false };
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

    fn count_with(&self, wanted: impl Fn(SequenceStatus) -> bool) -> usize {
        self.sequences.values().filter(|sequence| wanted(sequence.status)).count()
    }

    fn not_running(&self) -> usize {
        self.sequences.len() - self.running()
    }
}
