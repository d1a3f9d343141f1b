//! What the next step computes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::sequence::{Sequence, SequenceStatus};
use super::state::{EndCause, EndedSequence};
use super::{Limits, Scheduler, SeqId};
use crate::cache::BlockHash;
use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId, ImageInput};

/// Fewest blocks by which the cache grows.
const GROWTH: usize = 64;

/// Blocks for each running sequence that must be free beside what a newcomer needs.
const MARGIN: usize = 1;
/// The same for a sequence that was put back.
const MARGIN_AGAIN: usize = 4;

/// The next step. Without segments there is nothing to do until something happens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// The cache must be made larger first.
    pub(crate) grow: Option<Growth>,
    /// What is computed, decoded sequences first.
    pub(crate) segments: Vec<PlannedSegment>,
    /// Sequences that only compute their newest token.
    pub(crate) decoding: usize,
    /// Tokens of prompts.
    pub(crate) prompt_tokens: usize,
    /// Prompts that did not fit in whole.
    pub(crate) cut: usize,
}

/// From `before` blocks to `blocks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) before: usize,
    pub(crate) blocks: usize,
}

/// A part of one sequence.
#[derive(Debug, Clone)]
pub(crate) struct PlannedSegment {
    pub(crate) seq: SeqId,
    pub(crate) tokens: Vec<u32>,
    /// Position of the first of them.
    pub(crate) start: usize,
    pub(crate) blocks: Vec<BlockId>,
    pub(crate) images: Vec<Arc<ImageInput>>,
    /// Whether a token is chosen after the last of them.
    pub(crate) samples: bool,
    /// The chosen token will be the last there is room for.
    pub(crate) last: bool,
    /// Tokens of the prompt found in the cache.
    pub(crate) cached_tokens: usize,
}

impl Scheduler {
    /// Lets sequences in, makes room, and says what the next step computes. Until [`Scheduler::step_done`] it changes nothing
    /// but who holds which blocks, so a failed step can simply be planned again.
    pub(crate) fn plan(&mut self, now: Duration, limits: Limits) -> Plan {
        self.expire(now);
        let running = self.sequences.values().filter(|sequence| sequence.status == SequenceStatus::Running);
        self.fairness.advance(now, running.map(|sequence| &*sequence.principal));
        let before = self.cache.capacity();
        if !limits.hold {
            self.admit(now, limits.max_running.max(1));
        }
        let mut plan = Plan::default();
        let mut order = self.by_rank(|status| status == SequenceStatus::Running);
        // Who was in a step that crashed runs alone until it has got through one.
        if let Some(suspect) = order.iter().copied().find(|seq| self.sequences[seq].crashes > 0) {
            order = vec![suspect];
        }
        self.plan_decoding(&order, &mut plan);
        self.plan_prompts(&order, limits, &mut plan);
        let blocks = self.cache.capacity();
        plan.grow = (blocks > before).then_some(Growth { before, blocks });
        plan
    }

    /// Sequences in a status, first in rank first.
    fn by_rank(&self, wanted: impl Fn(SequenceStatus) -> bool) -> Vec<SeqId> {
        let mut order: Vec<(i64, SeqId)> = self
            .sequences
            .iter()
            .filter(|(_, sequence)| wanted(sequence.status))
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
                match self.displaced_by(candidate) {
                    Some(victim) => Some(victim),
                    None => break,
                }
            };
            if let Some(victim) = displaced
                && let Some(sequence) = self.sequences.get_mut(&victim)
            {
                // It keeps its blocks as long as nobody needs them.
                sequence.status = SequenceStatus::Waiting;
                self.counts.preemptions += 1;
            }
            if self.try_admit(candidate) {
                continue;
            }
            if let Some(victim) = displaced.and_then(|victim| self.sequences.get_mut(&victim)) {
                // It was for nothing; who has lost its blocks meanwhile waits all the same.
                if !victim.blocks.is_empty() {
                    victim.status = SequenceStatus::Running;
                    self.counts.preemptions -= 1;
                }
                break;
            }
            if self.running() > 0 {
                // Its turn comes; nobody overtakes it, or large prompts would starve.
                break;
            }
            self.remove(now, candidate);
            self.ended.push(EndedSequence { seq: candidate, cause: EndCause::Memory });
        }
    }

    /// The waiting sequence whose turn it is.
    fn next_waiting(&self) -> Option<SeqId> {
        let waiting =
            self.sequences.iter().filter(|(_, sequence)| sequence.status == SequenceStatus::Waiting);
        let turn = |sequence: &Sequence| {
            let penalty = self.fairness.penalty(&sequence.principal).as_micros();
            sequence.rank.saturating_add(i64::try_from(penalty).unwrap_or(i64::MAX))
        };
        waiting.min_by_key(|(seq, sequence)| (turn(sequence), **seq)).map(|(seq, _)| *seq)
    }

    /// The running sequence that gives its place to `candidate`: the last in rank of those with less priority and a later rank.
    fn displaced_by(&self, candidate: SeqId) -> Option<SeqId> {
        let wants = self.sequences.get(&candidate)?;
        self.sequences
            .iter()
            .filter(|(_, sequence)| sequence.status == SequenceStatus::Running)
            .filter(|(_, sequence)| sequence.priority < wants.priority && sequence.rank > wants.rank)
            .max_by_key(|(seq, sequence)| (sequence.rank, **seq))
            .map(|(seq, _)| *seq)
    }

    /// Gives a waiting sequence the blocks that all its tokens need, as many as possible shared; whether they were to be had.
    fn try_admit(&mut self, candidate: SeqId) -> bool {
        let Some(sequence) = self.sequences.get_mut(&candidate) else { return false };
        let mut found = sequence.computed / BLOCK_TOKENS;
        let mut found_cached = 0;
        if sequence.blocks.is_empty() {
            while found < sequence.shareable() {
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
        // Some blocks stay free for each running sequence, so that the newcomer is not put back at once; more for one that has
        // been put back before, or it would be computed again and again.
        let each = if sequence.admitted { MARGIN_AGAIN } else { MARGIN };
        let margin = self.running() * each;
        if !self.make_room(candidate, missing + found_cached, margin) {
            return false;
        }
        let Some(sequence) = self.sequences.get_mut(&candidate) else { return false };
        if sequence.blocks.is_empty() {
            // Room may have been made of what was found a moment ago: share what is still there.
            for index in 0..found {
                let Some(block) = sequence.hash(index).and_then(|hash| self.cache.share(hash)) else { break };
                sequence.blocks.push(block);
            }
            sequence.computed = sequence.blocks.len() * BLOCK_TOKENS;
            sequence.published = sequence.blocks.len();
        }
        if !sequence.admitted {
            sequence.admitted = true;
            sequence.cached_tokens = sequence.newly_known();
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

    /// Makes `blocks` available for `candidate` (and `margin` more, if that needs nobody's blocks): grows the cache, takes
    /// blocks from who does not run, then from who runs with less priority and a later rank.
    fn make_room(&mut self, candidate: SeqId, blocks: usize, margin: usize) -> bool {
        self.grow_for(blocks + margin);
        let Some(wants) = self.sequences.get(&candidate) else { return false };
        let (priority, rank) = (wants.priority, wants.rank);
        let wanted = blocks + margin;
        let idle = self.by_rank(|status| status != SequenceStatus::Running);
        for holder in idle.into_iter().rev().filter(|holder| *holder != candidate) {
            if self.cache.available() >= wanted {
                return true;
            }
            if !self.sequences[&holder].blocks.is_empty() {
                self.preempt(holder);
            }
        }
        while self.cache.available() < wanted {
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

    /// Grows the cache, as far as its limit lets it, until `blocks` are available.
    fn grow_for(&mut self, blocks: usize) {
        let missing = blocks.saturating_sub(self.cache.available());
        let capacity = self.cache.capacity();
        if missing > 0 && capacity < self.cache_limit {
            let wanted = (capacity + missing).max(capacity + (capacity / 4).max(GROWTH));
            self.cache.resize(wanted.min(self.cache_limit));
        }
    }

    /// The newest token of each running sequence, first in rank first.
    fn plan_decoding(&mut self, order: &[SeqId], plan: &mut Plan) {
        for seq in order {
            let ready = self.sequences.get(seq).is_some_and(|sequence| {
                sequence.status == SequenceStatus::Running && sequence.remaining() == 1
            });
            if ready && self.hold_blocks(*seq) {
                plan.decoding += 1;
                self.push_segment(*seq, 1, plan);
            }
        }
    }

    /// Sees to it that a running sequence has blocks for all its tokens, at the cost of who does not run, then of the running
    /// one that is last in rank; when that is itself, it waits.
    fn hold_blocks(&mut self, seq: SeqId) -> bool {
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

    /// Chunks of prompts, first in rank first, as far as the budget goes.
    fn plan_prompts(&mut self, order: &[SeqId], limits: Limits, plan: &mut Plan) {
        let alone = plan.decoding == 0;
        let budget = if alone { limits.prompt_alone } else { limits.prompt_beside }.max(1);
        // Who waits for the answer to a short prompt is there to see it; nobody notices one longer step.
        let short_budget = if alone { budget } else { limits.short_beside.max(budget) };
        // Blocks that this step computes: who wants the same ones waits a step and shares them.
        let mut under_way: BTreeSet<BlockHash> = BTreeSet::new();
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
            self.adopt(*seq);
            let Some(sequence) = self.sequences.get_mut(seq) else { continue };
            let first = sequence.computed / BLOCK_TOKENS;
            let aligned = sequence.computed.is_multiple_of(BLOCK_TOKENS);
            if aligned
                && first < sequence.shareable()
                && sequence.hash(first).is_some_and(|hash| under_way.contains(&hash))
            {
                continue;
            }
            let allowed =
                if sequence.newly_computed() <= limits.short_prompt { short_budget } else { budget };
            let take = sequence.remaining().min(allowed.saturating_sub(plan.prompt_tokens));
            if take == 0 {
                continue;
            }
            for index in first..(sequence.computed + take) / BLOCK_TOKENS {
                under_way.extend(sequence.hash(index));
            }
            plan.prompt_tokens += take;
            plan.cut += usize::from(take < sequence.remaining());
            self.push_segment(*seq, take, plan);
        }
    }

    /// Takes over blocks that others have computed since the sequence was let in, instead of computing the same again.
    fn adopt(&mut self, seq: SeqId) {
        let Some(sequence) = self.sequences.get_mut(&seq) else { return };
        while sequence.computed.is_multiple_of(BLOCK_TOKENS) {
            let index = sequence.computed / BLOCK_TOKENS;
            if index >= sequence.shareable() {
                return;
            }
            let Some(shared) = sequence.hash(index).and_then(|hash| self.cache.share(hash)) else { return };
            let own = std::mem::replace(&mut sequence.blocks[index], shared);
            self.cache.release(own);
            sequence.computed += BLOCK_TOKENS;
            sequence.published = index + 1;
            let of_prompt = sequence.newly_known();
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
