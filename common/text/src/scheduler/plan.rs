//! Planning of the next step: admission, preemption and the choice of segments.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::sequence::{Sequence, SequenceStatus};
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
        let running = self.sequences.values().filter(|sequence| sequence.status == SequenceStatus::Running);
        self.fairness.advance(now, running.map(|sequence| &*sequence.principal));
        let before = self.cache.capacity();
        if !limits.pause_admission {
            self.admit(now, limits.max_running.max(1));
        }
        let mut plan = Plan::default();
        let mut order = self.by_rank(|status| status == SequenceStatus::Running);
        // A sequence of a step that crashed runs alone until it has completed a step.
        if let Some(suspect) = order.iter().copied().find(|seq| self.sequences[seq].crashes > 0) {
            order = vec![suspect];
        }
        self.plan_decoding(&order, &mut plan);
        self.plan_prompts(&order, limits, &mut plan);
        let blocks = self.cache.capacity();
        plan.grow = (blocks > before).then_some(Growth { before, blocks });
        plan
    }

    /// Sequences whose status matches, in order of rank.
    fn by_rank(&self, matches: impl Fn(SequenceStatus) -> bool) -> Vec<SeqId> {
        let mut order: Vec<(i64, SeqId)> = self
            .sequences
            .iter()
            .filter(|(_, sequence)| matches(sequence.status))
            .map(|(seq, sequence)| (sequence.rank, *seq))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, seq)| seq).collect()
    }

    fn admit(&mut self, now: Duration, max_running: usize) {
        while let Some(candidate) = self.next_waiting() {
            let displaced = if self.running() < max_running {
                None
            } else {
                match self.displacement_victim(candidate) {
                    Some(victim) => Some(victim),
                    None => break,
                }
            };
            if let Some(victim) = displaced
                && let Some(sequence) = self.sequences.get_mut(&victim)
            {
                // It keeps its blocks until another sequence needs them.
                sequence.status = SequenceStatus::Waiting;
                self.counts.preemptions += 1;
            }
            if self.try_admit(candidate) {
                continue;
            }
            if let Some(victim) = displaced.and_then(|victim| self.sequences.get_mut(&victim)) {
                // The candidate was not admitted, so the victim continues, unless it has lost its blocks.
                if !victim.blocks.is_empty() {
                    victim.status = SequenceStatus::Running;
                    self.counts.preemptions -= 1;
                }
                break;
            }
            if self.running() > 0 {
                // The candidate stays first in line: if others overtook it, large prompts would starve.
                break;
            }
            self.remove(now, candidate);
            self.ended.push(EndedSequence { seq: candidate, cause: EndCause::Memory });
        }
    }

    /// The waiting sequence that is next in line.
    fn next_waiting(&self) -> Option<SeqId> {
        let waiting =
            self.sequences.iter().filter(|(_, sequence)| sequence.status == SequenceStatus::Waiting);
        let turn = |sequence: &Sequence| {
            let penalty = self.fairness.penalty(&sequence.principal).as_micros();
            sequence.rank.saturating_add(i64::try_from(penalty).unwrap_or(i64::MAX))
        };
        waiting.min_by_key(|(seq, sequence)| (turn(sequence), **seq)).map(|(seq, _)| *seq)
    }

    /// The running sequence that yields its slot to `candidate`: of those with lower priority and later rank, the last in rank.
    fn displacement_victim(&self, candidate: SeqId) -> Option<SeqId> {
        let candidate = self.sequences.get(&candidate)?;
        self.sequences
            .iter()
            .filter(|(_, sequence)| sequence.status == SequenceStatus::Running)
            .filter(|(_, sequence)| sequence.priority < candidate.priority && sequence.rank > candidate.rank)
            .max_by_key(|(seq, sequence)| (sequence.rank, **seq))
            .map(|(seq, _)| *seq)
    }

    /// Assigns a waiting sequence the blocks for all its tokens, sharing cached ones, and sets it running; `false` when too few
    /// blocks are available.
    fn try_admit(&mut self, candidate: SeqId) -> bool {
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
        // Some blocks stay free per running sequence, so that the sequence is not preempted again at once; more after a preemption,
        // to avoid repeated recomputation.
        let each = if sequence.admitted { READMISSION_MARGIN } else { MARGIN };
        let margin = self.running() * each;
        if !self.free_blocks(candidate, missing + found_cached, margin) {
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
        sequence.status = SequenceStatus::Running;
        true
    }

    /// Makes `blocks + margin` blocks available for `candidate`: grows the cache, then preempts sequences that are not running, then
    /// running ones with lower priority and later rank. `false` when that is not enough.
    fn free_blocks(&mut self, candidate: SeqId, blocks: usize, margin: usize) -> bool {
        let needed = blocks + margin;
        self.grow_for(needed);
        let Some(sequence) = self.sequences.get(&candidate) else { return false };
        let (priority, rank) = (sequence.priority, sequence.rank);
        let idle = self.by_rank(|status| status != SequenceStatus::Running);
        for holder in idle.into_iter().rev().filter(|holder| *holder != candidate) {
            if self.cache.available() >= needed {
                return true;
            }
            if !self.sequences[&holder].blocks.is_empty() {
                self.preempt(holder);
            }
        }
        while self.cache.available() < needed {
            let victim = self
                .sequences
                .iter()
                .filter(|(_, sequence)| sequence.status == SequenceStatus::Running)
                .filter(|(_, sequence)| sequence.priority < priority && sequence.rank > rank)
                .max_by_key(|(seq, sequence)| (sequence.rank, **seq))
                .map(|(seq, _)| *seq);
            match victim {
                Some(victim) => self.preempt(victim),
                None => return false,
            }
        }
        true
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

    /// Plans the newest token of each decoding sequence, in order of rank.
    fn plan_decoding(&mut self, order: &[SeqId], plan: &mut Plan) {
        for seq in order {
            let ready = self.sequences.get(seq).is_some_and(|sequence| {
                sequence.status == SequenceStatus::Running && sequence.remaining() == 1
            });
            if ready && self.ensure_blocks(*seq) {
                plan.decoding += 1;
                self.push_segment(*seq, 1, plan);
            }
        }
    }

    /// Ensures that a running sequence has blocks for all its tokens. If none is available, it preempts sequences that are not
    /// running, then the running one that is last in rank; `false` when that is the sequence itself.
    fn ensure_blocks(&mut self, seq: SeqId) -> bool {
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
            let idle = self.by_rank(|status| status != SequenceStatus::Running);
            let holder = idle.into_iter().rev().find(|holder| !self.sequences[holder].blocks.is_empty());
            let victim = holder.or_else(|| self.by_rank(|status| status == SequenceStatus::Running).pop());
            match victim {
                Some(victim) => self.preempt(victim),
                None => return false,
            }
        }
    }

    /// Plans chunks of prompts, in order of rank, within the budget.
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
