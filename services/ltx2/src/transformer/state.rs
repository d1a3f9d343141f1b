//! Activations of a forward pass.

use videosdgx_tensor::Tensor;

use super::across::{Across, CrossNoise};
use super::context::{Branch, Context};
use super::coordinates::AudioPositions;
use super::lanes::Lanes;

/// Activations of both streams, for each group of branches that are still the same.
pub(super) struct State<'a> {
    /// `[lanes, tokens, width]`.
    pub(super) video: Tensor,
    /// `[lanes, tokens, width]`.
    pub(super) audio: Option<Tensor>,
    lanes: Lanes,
    pub(super) context: &'a Context,
    /// Int64 `[lanes]`: the prompt of each lane; absent when that is the lane's own index.
    pub(super) prompts: Option<Tensor>,
    /// f32 `[lanes, 1, 1, tokens of the prompt]`.
    pub(super) mask: Option<Tensor>,
}

impl<'a> State<'a> {
    /// `video` and `audio`: `[1, tokens, width]`.
    pub(super) fn new(video: Tensor, audio: Option<Tensor>, context: &'a Context) -> Self {
        let lanes = Lanes::new(context.branches.len());
        Self { video, audio, lanes, context, prompts: None, mask: None }
    }

    /// Splits lanes whose branches differ in `key`.
    pub(super) fn split<K: PartialEq>(&mut self, key: impl Fn(&Branch) -> K) {
        let branches = &self.context.branches;
        let device = self.video.device();
        let index = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        if let Some(old) = self.lanes.split(branches, key) {
            let old = index(&old);
            self.video = self.video.index_select(0, &old);
            self.audio = self.audio.as_ref().map(|audio| audio.index_select(0, &old));
        }
        let prompts = self.lanes.each(branches, |branch| branch.prompt as i64);
        let in_order = prompts.iter().copied().eq(0..self.context.prompts);
        self.prompts = (!in_order).then(|| index(&prompts));
        self.mask = self.context.mask.as_ref().map(|mask| match &self.prompts {
            Some(prompts) => mask.index_select(0, prompts),
            None => mask.shallow_clone(),
        });
    }

    /// Which lanes are perturbed in block `index`; empty if none is.
    pub(super) fn perturbed(&mut self, index: usize) -> Vec<bool> {
        if !self.context.perturbed_blocks.contains(&index) {
            return Vec::new();
        }
        self.split(|branch| branch.perturbed);
        self.lanes.each(&self.context.branches, |branch| branch.perturbed)
    }

    /// Attention between the streams, in the lanes that are not isolated: the first ones.
    pub(super) fn across(&mut self, block: &Across, noise: [&CrossNoise; 2], positions: &AudioPositions) {
        let connected = self.lanes.connected(&self.context.branches);
        let Some(audio) = &self.audio else { return };
        if connected == 0 {
            return;
        }
        let parts = [&self.video, audio].map(|hidden| hidden.narrow(0, 0, connected));
        let results = block.forward(parts.each_ref().map(Tensor::shallow_clone), noise, positions);
        for (mut part, result) in parts.into_iter().zip(results) {
            // Does nothing where the result was written to the same memory.
            part.copy_(&result);
        }
    }

    /// Results of the lanes → those of the branches.
    pub(super) fn of_branches(&self, lanes: Tensor) -> Tensor {
        let of_branches = self.lanes.of_branches();
        match of_branches.iter().copied().eq(0..lanes.size()[0]) {
            true => lanes,
            false => lanes.index_select(0, &Tensor::from_slice(&of_branches).to_device(lanes.device())),
        }
    }
}
