//! One of the two streams: what is before, in and after the blocks.

use videosdgx_tensor::{LayerNorm, Linear, Tensor, TensorError, Weights};

use super::TransformerConfig;
use super::across::CrossNoise;
use super::config::Modality;
use super::embedder::{Embedded, Embedder, Vectors, load_table};
use super::stream_block::StreamBlock;
use super::times::Timesteps;
use crate::attention::Memory;
use crate::names::TensorList;

/// Epsilon of the last norm (fixed in the reference).
const OUTPUT_EPS: f64 = 1e-6;

/// Weights of a stream.
pub(super) struct Stream {
    input: Linear,
    caption: Option<Caption>,
    time: Embedder,
    prompt: Option<Embedder>,
    cross_modulation: Embedder,
    cross_gate: Embedder,
    pub(super) blocks: Vec<StreamBlock>,
    norm: LayerNorm,
    /// Shift and 1 + scale: `[2, 1, width]` f32.
    output_table: Tensor,
    output: Linear,
    cross_gate_factor: f64,
}

/// Two linear layers that project a prompt.
struct Caption {
    first: Linear,
    second: Linear,
}

/// Vectors of a step's noise levels.
pub(super) struct Noise {
    pub(super) own: Embedded,
    pub(super) across: CrossNoise,
    /// `[2, 1, width]` f32.
    prompt: Option<Tensor>,
}

/// A prompt's tokens, as the blocks need them.
pub(super) enum PromptStates {
    /// Keys and values for each block.
    Constant(Vec<Memory>),
    /// `[prompts, tokens, width]`; keys and values depend on the noise level.
    FollowsNoise(Tensor),
}

/// Names of a stream's parts.
struct Names {
    prefix: &'static str,
    cross_modulation: &'static str,
    cross_gate: &'static str,
}

fn names(modality: Modality) -> Names {
    match modality {
        Modality::Video => Names {
            prefix: "",
            cross_modulation: "av_cross_attn_video_scale_shift",
            cross_gate: "av_cross_attn_video_a2v_gate",
        },
        Modality::Audio => Names {
            prefix: "audio_",
            cross_modulation: "av_cross_attn_audio_scale_shift",
            cross_gate: "av_cross_attn_audio_v2a_gate",
        },
    }
}

impl Stream {
    /// Loads everything but the blocks.
    pub(super) fn load(
        weights: &Weights,
        config: &TransformerConfig,
        modality: Modality,
    ) -> Result<Self, TensorError> {
        let (stream, names) = (config.stream(modality), names(modality));
        let (width, prefix) = (stream.width(), names.prefix);
        let embedder = |name: &str, vectors| Embedder::load(&weights.at(name), width, vectors);
        let plain = weights.unquantized();
        let caption = match config.use_prompt_embeddings {
            true => {
                let weights = plain.at(format!("{prefix}caption_projection"));
                Some(Caption {
                    first: weights.linear("linear_1", config.caption_channels, width, true)?,
                    second: weights.linear("linear_2", width, width, true)?,
                })
            }
            false => None,
        };
        let prompt = match config.prompt_follows_noise() {
            true => Some(embedder(&format!("{prefix}prompt_adaln"), 2)?),
            false => None,
        };
        Ok(Self {
            input: plain.linear(&format!("{prefix}proj_in"), stream.inputs, width, true)?,
            caption,
            time: embedder(&format!("{prefix}time_embed"), stream.modulations())?,
            prompt,
            cross_modulation: embedder(names.cross_modulation, 4)?,
            cross_gate: embedder(names.cross_gate, 1)?,
            blocks: Vec::new(),
            norm: LayerNorm::without_affine(width, OUTPUT_EPS),
            output_table: load_table(weights, &format!("{prefix}scale_shift_table"), [2, width], &[1])?,
            output: plain.linear(&format!("{prefix}proj_out"), width, stream.outputs, true)?,
            cross_gate_factor: config.cross_attn_timestep_scale_multiplier as f64
                / config.timestep_scale_multiplier as f64,
        })
    }

    pub(super) fn tensors(list: &mut TensorList, config: &TransformerConfig, modality: Modality) {
        let (stream, names) = (config.stream(modality), names(modality));
        let (width, prefix) = (stream.width(), names.prefix);
        list.linear(&format!("{prefix}proj_in"), stream.inputs, width, true);
        if config.use_prompt_embeddings {
            list.linear(
                &format!("{prefix}caption_projection.linear_1"),
                config.caption_channels,
                width,
                true,
            );
            list.linear(&format!("{prefix}caption_projection.linear_2"), width, width, true);
        }
        if config.prompt_follows_noise() {
            Embedder::tensors(list, &format!("{prefix}prompt_adaln"), width, 2);
        }
        Embedder::tensors(list, &format!("{prefix}time_embed"), width, stream.modulations());
        Embedder::tensors(list, names.cross_modulation, width, 4);
        Embedder::tensors(list, names.cross_gate, width, 1);
        list.tensor(&format!("{prefix}scale_shift_table"), &[2, width]);
        list.linear(&format!("{prefix}proj_out"), width, stream.outputs, true);
    }

    /// Latents `[1, tokens, channels]` → `[1, tokens, width]`.
    pub(super) fn embed(&self, latents: &Tensor) -> Tensor {
        self.input.forward(latents)
    }

    /// Vectors of a step: `own` timesteps of the tokens, `across` those that modulate the attention between the streams,
    /// `sigma` the stream's as a whole.
    pub(super) fn noise(&self, own: &Timesteps, across: &Timesteps, sigma: f64) -> Noise {
        Noise {
            own: self.time.forward(own, 1.0),
            across: CrossNoise {
                modulation: self.cross_modulation.forward(across, 1.0),
                gate: self.cross_gate.forward(across, self.cross_gate_factor),
            },
            prompt: self
                .prompt
                .as_ref()
                .map(|prompt| prompt.forward(&Timesteps::uniform(sigma), 1.0).vectors),
        }
    }

    /// `prompts`: `[prompts, tokens, prompt width]`.
    pub(super) fn prompt_states(&self, prompts: &Tensor) -> PromptStates {
        let projected = match &self.caption {
            Some(Caption { first, second }) => second.forward(&first.forward(prompts).gelu_("tanh")),
            None => prompts.shallow_clone(),
        };
        match self.prompt {
            Some(_) => PromptStates::FollowsNoise(projected),
            None => PromptStates::Constant(
                self.blocks.iter().map(|block| block.memory(&projected, None)).collect(),
            ),
        }
    }

    /// The attention to the prompt of block `index`. `lanes`: Int64, which prompt each element of the batch has; absent
    /// when they are those of `states`, in order.
    pub(super) fn attend_text(
        &self,
        index: usize,
        hidden: Tensor,
        (vectors, noise): (&Vectors, &Noise),
        states: &PromptStates,
        (lanes, mask): (Option<&Tensor>, Option<&Tensor>),
    ) -> Tensor {
        let block = &self.blocks[index];
        let computed;
        let memory = match states {
            PromptStates::Constant(memories) => &memories[index],
            PromptStates::FollowsNoise(states) => {
                computed = block.memory(states, noise.prompt.as_ref());
                &computed
            }
        };
        match lanes {
            Some(lanes) => block.attend_text(hidden, vectors, &memory.select(lanes), mask),
            None => block.attend_text(hidden, vectors, memory, mask),
        }
    }

    /// `[batch, tokens, width]` → velocities `[batch, tokens, channels]`.
    pub(super) fn finish(&self, hidden: &Tensor, noise: &Noise) -> Tensor {
        let vectors =
            Vectors::new(&self.output_table, &noise.own.embedding.unsqueeze(0), noise.own.rows.as_ref());
        self.output.forward(&self.norm.modulated(hidden, vectors.modulation(1, 0)))
    }
}
