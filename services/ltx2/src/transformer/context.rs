//! Prompts and branches of guidance, prepared once per generation.

use videosdgx_tensor::{Device, Kind, Tensor};

use super::LtxTransformer;
use super::stream::PromptStates;

/// Added to the scores of tokens that a prompt does not have, as in the reference.
const MASKED: f64 = -10_000.0;

/// A prompt, as the connectors return it.
#[derive(Clone, Copy)]
pub struct Prompt<'a> {
    /// `[tokens, width]`, for the video; the widths are [`super::TransformerConfig::prompt_widths`].
    pub video: &'a Tensor,
    /// `[tokens, width]`, for the sound; not needed for a video without sound.
    pub audio: Option<&'a Tensor>,
    /// `[tokens]`, 1 for tokens that belong to the prompt, 0 for others; absent when all do.
    pub mask: Option<&'a Tensor>,
}

/// A branch of guidance: one prediction of each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Branch {
    /// Index of its prompt.
    pub prompt: usize,
    /// Whether self-attention is perturbed in the blocks of spatio-temporal guidance: tokens keep their own values. Has
    /// no effect in a transformer without `perturbed_attn`, as in the reference.
    pub perturbed: bool,
    /// Whether video and sound do not attend to each other (modality guidance).
    pub isolated: bool,
}

/// What is the same in all steps: prompts and branches.
pub struct Context {
    pub(super) branches: Vec<Branch>,
    pub(super) perturbed_blocks: Vec<usize>,
    pub(super) video: PromptStates,
    pub(super) audio: Option<PromptStates>,
    /// f32 `[prompts, 1, 1, tokens]`, added to the scores.
    pub(super) mask: Option<Tensor>,
    pub(super) prompts: i64,
}

impl Context {
    /// Number of branches: the batch size of the prediction.
    pub fn branches(&self) -> i64 {
        self.branches.len() as i64
    }
}

impl LtxTransformer {
    /// Prepares at least one of `prompts` and of `branches`, whose order is that of the prediction. `perturbed_blocks`:
    /// where branches that say so are perturbed. A video is generated without sound, and as if isolated from it, when a
    /// prompt has no part for the sound.
    pub fn context(
        &self,
        prompts: &[Prompt<'_>],
        branches: &[Branch],
        perturbed_blocks: &[usize],
    ) -> Context {
        let kind_device = (self.kind, self.device);
        let [video_width, audio_width] = self.config.prompt_widths();
        let tokens = prompts.iter().map(|prompt| prompt.video.size()[0]).max().unwrap_or(0);
        let count = prompts.len() as i64;
        let filled = |parts: &[&Tensor], width: i64| {
            let all = Tensor::zeros([count, tokens, width], kind_device);
            for (index, part) in parts.iter().enumerate() {
                all.select(0, index as i64).narrow(0, 0, part.size()[0]).copy_(part);
            }
            all
        };
        let mask = Tensor::full([count, 1, 1, tokens], MASKED, (Kind::Float, Device::Cpu));
        let mut masked = false;
        for (index, prompt) in prompts.iter().enumerate() {
            let length = prompt.video.size()[0];
            let row = mask.select(0, index as i64).view([tokens]).narrow(0, 0, length);
            match prompt.mask {
                Some(given) => {
                    let given = given.to_device(Device::Cpu).to_kind(Kind::Float);
                    row.shallow_clone().copy_(&((1.0 - given) * MASKED));
                }
                None => drop(row.shallow_clone().zero_()),
            }
            masked |= length < tokens || f64::try_from(row.min()).is_ok_and(|least| least < 0.0);
        }
        let video: Vec<&Tensor> = prompts.iter().map(|prompt| prompt.video).collect();
        let audio: Option<Vec<&Tensor>> = prompts.iter().map(|prompt| prompt.audio).collect();
        let perturbs = self.config.perturbed_attn;
        let branches =
            branches.iter().map(|branch| Branch { perturbed: branch.perturbed && perturbs, ..*branch });
        Context {
            branches: branches.collect(),
            perturbed_blocks: perturbed_blocks.to_vec(),
            video: self.video.prompt_states(&filled(&video, video_width)),
            audio: audio.map(|audio| self.audio.prompt_states(&filled(&audio, audio_width))),
            mask: masked.then(|| mask.to_device(self.device)),
            prompts: count,
        }
    }
}
