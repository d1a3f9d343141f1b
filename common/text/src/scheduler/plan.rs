//! Planning of the next step: admission, preemption and the choice of segments.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::sequence::{Sequence, SequenceStatus};
use super::shares::{LEAD, PROMPT_TOKEN, QUANTUM, at_level};
use super::state::{EndCause, EndedSequence};
use super::{Scheduler, SeqId, StepLimits};
use crate::cache::BlockHash;
use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId, ImageInput};

/// Minimum number of blocks by which the cache grows.
const MIN_GROWTH: usize = 64;

/// Blocks per running sequence that must stay free when a new sequence is admitted.
const MARGIN: usize = 1;
/// The same when a preempted sequence is admitted again.
const READMISSION_MARGIN: usize = 4;

/// The next step. Without segments there is nothing to compute until the next event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// The cache must be grown first.
    pub(crate) grow: Option<Growth>,
    /// Segments to compute, decoding sequences first.
    pub(crate) segments: Vec<PlannedSegment>,
    /// Number of decoding sequences: those that compute only their newest token.
    pub(crate) decoding: usize,
    /// Number of prompt tokens.
    pub(crate) prompt_tokens: usize,
    /// Number of prompts of which only a part fits into the step.
    pub(crate) cut: usize,
}

/// Growth of the cache from `before` to `blocks` blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) before: usize,
    pub(crate) blocks: usize,
}

/// Consecutive tokens of one sequence in the step.
#[derive(Debug, Clone)]
pub(crate) struct PlannedSegment {
    pub(crate) seq: SeqId,
    pub(crate) tokens: Vec<u32>,
    /// Position of the first token.
    pub(crate) start: usize,
    pub(crate) blocks: Vec<BlockId>,
    pub(crate) images: Vec<Arc<ImageInput>>,
    /// Whether a token is sampled after the last one.
    pub(crate) samples: bool,
    /// The sampled token reaches the maximum length of the sequence.
    pub(crate) last: bool,
    /// Prompt tokens found in the cache.
    pub(crate) cached_tokens: usize,
}

impl Scheduler {
    /// Admits sequences, assigns blocks, and returns the next step. Apart from admission and blocks it changes nothing until
    /// [`Scheduler::step_done`], so a failed step can be planned again.
    pub(crate) fn plan(&mut self, now: Duration, limits: StepLimits) -> Plan {
        self.expire(now);
        self.shares.note_starved(now);
        let before = self.cache.capacity();
        if !limits.pause_admission {
            self.admit(now, limits.max_running.max(1));
        }
        let mut plan = Plan::default();
        let mut order = self.running_order();
        let mut planned = order.len();
        // A sequence of a step that crashed runs alone until it has completed a step.
        if let Some(suspect) = order.iter().position(|seq| self.sequences[seq].crashes > 0) {
            order[..=suspect].rotate_right(1);
            planned = 1;
        }
        self.plan_decoding(&order, planned, &mut plan);
        order.truncate(planned);
        if plan.decoding < planned {
            // The budget goes to the principal with the lowest counter first.
            order.sort_by_cached_key(|seq| {
                self.sequences
                    .get(seq)
                    .map(|sequence| (self.shares.counter(sequence.account), sequence.rank, *seq))
            });
        }
        self.plan_prompts(&order, limits, &mut plan);
        let blocks = self.cache.capacity();
        plan.grow = (blocks > before).then_some(Growth { before, blocks });
        plan
    }

    /// Running sequences; the last ones yield their blocks first.
    fn running_order(&self) -> Vec<SeqId> {
        let mut order: Vec<(u64, i64, SeqId)> = self
            .sequences
            .iter()
            .filter(|(_, sequence)| sequence.status == SequenceStatus::Running)
            .map(|(seq, sequence)| (self.shares.position(sequence.account), sequence.rank, *seq))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(.., seq)| seq).collect()
    }

    fn admit(&mut self, now: Duration, max_running: usize) {
        // Every admission beyond the number of slots reduces the difference between two principals, or lets a higher priority pass.
        for _ in 0..=self.sequences.len() {
            let Some((candidate, displaced)) = self.next_admission(now, max_running) else { return };
            if let Some(victim) = displaced {
                // It keeps its blocks until another sequence needs them.
                self.set_status(victim, SequenceStatus::Waiting);
                self.counts.preemptions += 1;
            }
            if self.try_admit(now, candidate) {
                continue;
            }
            if let Some(victim) = displaced {
                // The candidate was not admitted, so the victim continues, unless it has lost its blocks.
                if self.sequences.get(&victim).is_some_and(|sequence| !sequence.blocks.is_empty()) {
                    self.set_status(victim, SequenceStatus::Running);
                    self.counts.preemptions -= 1;
                }
                return;
            }
            if self.running() > 0 {
                // The candidate stays first in line: if others overtook it, large prompts would starve.
                return;
            }
            self.remove(now, candidate);
            self.ended.push(EndedSequence { seq: candidate, cause: EndCause::Memory });
        }
    }

    /// The waiting sequence that gets a slot, and the running one that yields its slot, if none is free.
    fn next_admission(&mut self, now: Duration, max_running: usize) -> Option<(SeqId, Option<SeqId>)> {
        if self.shares.total().waiting == 0 {
            return None;
        }
        let waiting =
            self.sequences.iter().filter(|(_, sequence)| sequence.status == SequenceStatus::Waiting);
        self.shares.find_heads(waiting.map(|(seq, sequence)| (sequence.account, sequence.rank, *seq)));
        let turn = |seq: &SeqId| {
            self.sequences.get(seq).map(|sequence| (self.position_with(now, sequence), sequence.rank, *seq))
        };
        let first = self.shares.heads().min_by_key(turn)?;
        if self.running() < max_running {
            return Some((first, None));
        }
        if let Some(victim) = self.displacement_victim(now, first) {
            return Some((first, Some(victim)));
        }
        // While the first one waits for another principal's slot, others may still use those of their own principal.
        self.shares.heads().filter(|seq| *seq != first).find_map(|seq| {
            let victim = self.displacement_victim(now, seq)?;
            Some((seq, Some(victim)))
        })
    }

    /// The position of a waiting sequence's principal if the sequence ran.
    fn position_with(&self, now: Duration, sequence: &Sequence) -> u64 {
        let level = self.level_at(now, sequence);
        self.shares.position(sequence.account).saturating_add(at_level(QUANTUM, level))
    }

    fn level_at(&self, now: Duration, sequence: &Sequence) -> u8 {
        sequence.level_at(now, self.shares.starved_since(sequence.account), self.config.ageing)
    }

    /// The running sequence that yields its slot to `candidate`: of those that may be displaced, the last in rank of the principal
    /// with the highest position.
    fn displacement_victim(&self, now: Duration, candidate: SeqId) -> Option<SeqId> {
        let candidate = self.sequences.get(&candidate)?;
        let missing = candidate.blocks_needed().saturating_sub(candidate.blocks.len());
        let fits = missing + self.margin(candidate) <= self.cache.available() + self.growth_left();
        self.victim(now, candidate, !fits)
    }

    /// As [`Scheduler::displacement_victim`]. `frees`: it also loses its blocks.
    fn victim(&self, now: Duration, candidate: &Sequence, frees: bool) -> Option<SeqId> {
        let position = self.position_with(now, candidate);
        let aged = candidate.aged_at(now);
        let yields = |victim: &Sequence| {
            if victim.account == candidate.account {
                return victim.priority < candidate.priority && victim.aged < aged;
            }
            // What must be computed again is less than what its principal is ahead.
            let lost = if frees { victim.computed as u64 * PROMPT_TOKEN } else { 0 };
            position.saturating_add(at_level(LEAD + lost, victim.level))
                < self.shares.position(victim.account)
        };
        self.sequences
            .iter()
            .filter(|(_, sequence)| sequence.status == SequenceStatus::Running)
            .filter(|(_, sequence)| yields(sequence))
            .max_by_key(|(seq, sequence)| (self.shares.position(sequence.account), sequence.rank, **seq))
            .map(|(seq, _)| *seq)
    }

    /// Number of blocks that must stay free when `candidate` is admitted, so that it is not preempted again at once; more after a
    /// preemption, to avoid repeated recomputation.
    fn margin(&self, candidate: &Sequence) -> usize {
        self.running() * if candidate.admitted { READMISSION_MARGIN } else { MARGIN }
    }

    /// Number of blocks by which the cache may grow.
    fn growth_left(&self) -> usize {
        self.cache_limit.saturating_sub(self.cache.capacity())
    }

    /// Assigns a waiting sequence the blocks for all its tokens, sharing cached ones, and sets it running; `false` when too few
    /// blocks are available.
    fn try_admit(&mut self, now: Duration, candidate: SeqId) -> bool {
        let Some(sequence) = self.sequences.get_mut(&candidate) else { return false };
        let mut found = sequence.computed / BLOCK_TOKENS;
        let mut found_cached = 0;
        if sequence.blocks.is_empty() {
            while found < sequence.shareable_blocks() {
                match sequence.hash(found) {
                    Some(hash) if self.cache.contains(hash) => {
                        found_cached += usize::from(self.cache.is_cached(hash))
                    }
                    _ => break,
                }
                found += 1;
            }
        }
        let held = sequence.blocks.len().max(found);
        let missing = sequence.blocks_needed().saturating_sub(held);
        let Some(sequence) = self.sequences.get(&candidate) else { return false };
        let (needed, level) = (missing + found_cached + self.margin(sequence), self.level_at(now, sequence));
        if !self.free_blocks(now, candidate, needed) {
            return false;
        }
        let Some(sequence) = self.sequences.get_mut(&candidate) else { return false };
        if sequence.blocks.is_empty() {
            // Freeing blocks may have evicted some of those found above: share the ones that are left.
            for index in 0..found {
                let Some(block) = sequence.hash(index).and_then(|hash| self.cache.share(hash)) else { break };
                sequence.blocks.push(block);
            }
            sequence.computed = sequence.blocks.len() * BLOCK_TOKENS;
            sequence.published = sequence.blocks.len();
        }
        if !sequence.admitted {
            sequence.admitted = true;
            sequence.aged = sequence.aged_at(now);
            sequence.cached_tokens = sequence.take_newly_cached();
            self.counts.prefix_queries += sequence.prompt_tokens as u64;
            self.counts.prefix_hits += sequence.cached_tokens as u64;
            self.counts.prompt_tokens += sequence.cached_tokens as u64;
        }
        while sequence.blocks.len() < sequence.blocks_needed() {
            match self.cache.take() {
                Some(block) => sequence.blocks.push(block),
                None => {
                    self.preempt(candidate);
                    return false;
                }
            }
        }
        sequence.level = level;
        self.set_status(candidate, SequenceStatus::Running);
        true
    }

    /// Makes `needed` blocks available for `candidate`: grows the cache, then preempts sequences that are not running, then running
    /// ones that may be displaced. `false` when that is not enough.
    fn free_blocks(&mut self, now: Duration, candidate: SeqId, needed: usize) -> bool {
        self.grow_for(needed);
        while self.cache.available() < needed {
            if let Some(holder) = self.last_idle_holder(Some(candidate)) {
                self.preempt(holder);
                continue;
            }
            let Some(sequence) = self.sequences.get(&candidate) else { return false };
            match self.victim(now, sequence, true) {
                Some(victim) => self.preempt(victim),
                None => return false,
            }
        }
        true
    }

    /// The sequence that holds blocks, is not running, and yields them first.
    fn last_idle_holder(&self, except: Option<SeqId>) -> Option<SeqId> {
        self.sequences
            .iter()
            .filter(|(_, sequence)| sequence.status != SequenceStatus::Running && !sequence.blocks.is_empty())
            .filter(|(seq, _)| Some(**seq) != except)
            .max_by_key(|(seq, sequence)| (self.shares.position(sequence.account), sequence.rank, **seq))
            .map(|(seq, _)| *seq)
    }

    /// Grows the cache, within its limit, until `blocks` are available.
    fn grow_for(&mut self, blocks: usize) {
        let missing = blocks.saturating_sub(self.cache.available());
        let capacity = self.cache.capacity();
        if missing > 0 && capacity < self.cache_limit {
            let target = (capacity + missing).max(capacity + (capacity / 4).max(MIN_GROWTH));
            self.cache.resize(target.min(self.cache_limit));
        }
    }

    /// Plans the newest token of each decoding sequence among the first `planned` of `order`.
    fn plan_decoding(&mut self, order: &[SeqId], planned: usize, plan: &mut Plan) {
        for (index, seq) in order.iter().enumerate().take(planned) {
            let ready = self.sequences.get(seq).is_some_and(|sequence| {
                sequence.status == SequenceStatus::Running && sequence.remaining() == 1
            });
            if ready && self.ensure_blocks(*seq, &order[index + 1..]) {
                plan.decoding += 1;
                self.push_segment(*seq, 1, plan);
            }
        }
    }

    /// Ensures that a running sequence has blocks for all its tokens. If none is available, it preempts sequences that are not
    /// running, then the last running one of `later`, which are not in the plan yet, and without any the sequence itself; `false`
    /// then.
    fn ensure_blocks(&mut self, seq: SeqId, later: &[SeqId]) -> bool {
        loop {
            let Some(sequence) = self.sequences.get_mut(&seq) else { return false };
            if sequence.status != SequenceStatus::Running {
                return false;
            }
            if sequence.blocks.len() >= sequence.blocks_needed() {
                return true;
            }
            if let Some(block) = self.cache.take() {
                sequence.blocks.push(block);
                continue;
            }
            self.grow_for(1);
            if self.cache.available() > 0 {
                continue;
            }
            let victim = self.last_idle_holder(None).unwrap_or_else(|| {
                let runs = |seq: &&SeqId| {
                    self.sequences.get(seq).is_some_and(|other| other.status == SequenceStatus::Running)
                };
                later.iter().rev().find(runs).copied().unwrap_or(seq)
            });
            self.preempt(victim);
        }
    }

    /// Plans chunks of prompts, in this order, within the budget.
    fn plan_prompts(&mut self, order: &[SeqId], limits: StepLimits, plan: &mut Plan) {
        let prompts_only = plan.decoding == 0;
        let budget = if prompts_only { limits.prompt_only_budget } else { limits.mixed_budget }.max(1);
        // Short prompts get a larger budget: a fast first token is worth one longer step.
        let short_budget = if prompts_only { budget } else { limits.short_mixed_budget.max(budget) };
        // Blocks that this step computes: other sequences with the same blocks wait for the next step and share them.
        let mut in_progress: BTreeSet<BlockHash> = BTreeSet::new();
        for seq in order {
            if plan.prompt_tokens >= short_budget {
                break;
            }
            let waits = self.sequences.get(seq).is_none_or(|sequence| {
                sequence.status != SequenceStatus::Running || sequence.remaining() <= 1
            });
            if waits {
                continue;
            }
            self.share_computed_blocks(*seq);
            let Some(sequence) = self.sequences.get_mut(seq) else { continue };
            let first = sequence.computed / BLOCK_TOKENS;
            let aligned = sequence.computed.is_multiple_of(BLOCK_TOKENS);
            if aligned
                && first < sequence.shareable_blocks()
                && sequence.hash(first).is_some_and(|hash| in_progress.contains(&hash))
            {
                continue;
            }
            let allowed =
                if sequence.uncached_prompt_tokens() <= limits.short_prompt { short_budget } else { budget };
            let take = sequence.remaining().min(allowed.saturating_sub(plan.prompt_tokens));
            if take == 0 {
                continue;
            }
            for index in first..(sequence.computed + take) / BLOCK_TOKENS {
                in_progress.extend(sequence.hash(index));
            }
            plan.prompt_tokens += take;
            plan.cut += usize::from(take < sequence.remaining());
            self.push_segment(*seq, take, plan);
        }
    }

    /// Shares blocks that other sequences have computed since this one was admitted, instead of computing them again.
    fn share_computed_blocks(&mut self, seq: SeqId) {
        let Some(sequence) = self.sequences.get_mut(&seq) else { return };
        while sequence.computed.is_multiple_of(BLOCK_TOKENS) {
            let index = sequence.computed / BLOCK_TOKENS;
            if index >= sequence.shareable_blocks() {
                return;
            }
            let Some(shared) = sequence.hash(index).and_then(|hash| self.cache.share(hash)) else { return };
            let own = std::mem::replace(&mut sequence.blocks[index], shared);
            self.cache.release(own);
            sequence.computed += BLOCK_TOKENS;
            sequence.published = index + 1;
            let of_prompt = sequence.take_newly_cached();
            sequence.cached_tokens += of_prompt;
            self.counts.prefix_hits += of_prompt as u64;
            self.counts.prompt_tokens += of_prompt as u64;
        }
    }

    fn push_segment(&mut self, seq: SeqId, take: usize, plan: &mut Plan) {
        let Some(sequence) = self.sequences.get(&seq) else { return };
        let end = sequence.computed + take;
        let samples = end == sequence.tokens.len();
        plan.segments.push(PlannedSegment {
            seq,
            tokens: sequence.tokens[sequence.computed..end].to_vec(),
            start: sequence.computed,
            blocks: sequence.blocks[..end.div_ceil(BLOCK_TOKENS)].to_vec(),
            images: sequence.images.clone(),
            samples,
            last: samples && end + 1 >= sequence.max_len,
            cached_tokens: sequence.cached_tokens,
        });
    }
}
