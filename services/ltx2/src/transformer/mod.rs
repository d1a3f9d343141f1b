//! The LTX-2 diffusion transformer for video and sound (`LTX2VideoTransformer3DModel` of diffusers 0.42; Lightricks
//! 2026), with the flags of versions 2.0, 2.3 and 2.5.

mod across;
mod config;
mod context;
mod coordinates;
mod embedder;
mod lanes;
mod state;
mod stream;
mod stream_block;
mod times;

use videosdgx_tensor::{Device, Kind, Tensor, TensorError, Weights};

use across::Across;
use config::Modality;
pub use config::TransformerConfig;
pub use context::{Branch, Context, Prompt};
pub use coordinates::Positions;
use state::State;
use stream::{Noise, Stream};
use stream_block::StreamBlock;
pub use times::{GivenTokens, Times, Timesteps};

use crate::names::TensorList;

/// The loaded transformer.
pub struct LtxTransformer {
    config: TransformerConfig,
    video: Stream,
    audio: Stream,
    across: Vec<Across>,
    /// `[1, width]` in the compute type: added to tokens of a latent frame that is a single picture.
    keyframes: Option<Tensor>,
    kind: Kind,
    device: Device,
    resident_bytes: u64,
}

/// Noisy latents of a step, in any floating type.
#[derive(Clone, Copy)]
pub struct Latents<'a> {
    /// `[1, tokens, in_channels]`: frames, rows, columns, in this order, then tokens of given pictures.
    pub video: &'a Tensor,
    /// `[1, tokens, audio_in_channels]`; absent for a video without sound.
    pub audio: Option<&'a Tensor>,
}

/// Predicted velocities of the flow, in the compute type.
pub struct Velocity {
    /// `[branches, tokens, out_channels]`.
    pub video: Tensor,
    /// `[branches, tokens, audio_out_channels]`.
    pub audio: Option<Tensor>,
}

/// Every tensor of the published checkpoint of a transformer with its shape, not quantised.
///
/// `config` is one that [`TransformerConfig::check`] accepts.
#[must_use]
pub fn expected_tensors(config: &TransformerConfig) -> Vec<(String, Vec<i64>)> {
    let mut list = TensorList::new();
    if config.use_keyframes_abs_pos_embedding {
        list.tensor("keyframes_abs_pos_embedding", &[1, config.width()]);
    }
    for modality in [Modality::Video, Modality::Audio] {
        Stream::tensors(&mut list, config, modality);
    }
    for index in 0..config.num_layers {
        list.within(&format!("transformer_blocks.{index}"), |list| {
            StreamBlock::tensors(list, config, Modality::Video);
            StreamBlock::tensors(list, config, Modality::Audio);
            Across::tensors(list, config);
        });
    }
    list.finish()
}

impl LtxTransformer {
    /// Loads the transformer; the linears of the blocks are in the weights' quantised format, the rest is not quantised.
    ///
    /// # Errors
    /// `Invalid` naming the file when the configuration or a tensor is not supported; `OutOfMemory`.
    pub fn load(weights: &Weights, config: TransformerConfig) -> Result<Self, TensorError> {
        config.check().map_err(|reason| {
            videosdgx_tensor::CheckpointError::invalid(
                weights.checkpoint().folder().join("config.json"),
                reason,
            )
        })?;
        let before = weights.resident_bytes();
        let mut video = Stream::load(weights, &config, Modality::Video)?;
        let mut audio = Stream::load(weights, &config, Modality::Audio)?;
        let mut across = Vec::new();
        for index in 0..config.num_layers {
            let weights = weights.at("transformer_blocks").at(index);
            video.blocks.push(StreamBlock::load(&weights, &config, Modality::Video)?);
            audio.blocks.push(StreamBlock::load(&weights, &config, Modality::Audio)?);
            across.push(Across::load(&weights, &config)?);
        }
        let keyframes = match config.use_keyframes_abs_pos_embedding {
            true => Some(weights.tensor("keyframes_abs_pos_embedding", &[1, config.width()])?),
            false => None,
        };
        Ok(Self {
            video,
            audio,
            across,
            keyframes,
            kind: weights.kind(),
            device: weights.device(),
            resident_bytes: weights.resident_bytes() - before,
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The compute type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of the weights in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Rotary angles of tokens at coordinates of [`TransformerConfig::video_coordinates`] (and, for pictures given by
    /// further tokens, [`TransformerConfig::keyframe_coordinates`], concatenated along the tokens) and
    /// [`TransformerConfig::audio_coordinates`]; compute them once per generation.
    ///
    /// `keyframes` `[video tokens]`: not 0 for tokens of a latent frame that is a single picture; without effect in a
    /// transformer that does not mark them.
    pub fn positions(&self, video: &Tensor, audio: Option<&Tensor>, keyframes: Option<&Tensor>) -> Positions {
        let keyframes = keyframes.filter(|_| self.keyframes.is_some());
        let marks = keyframes
            .map(|keyframes| keyframes.gt(0.0).to_kind(self.kind).to_device(self.device).unsqueeze(-1));
        self.config.positions(video, audio, marks, self.device)
    }

    /// Predicts the velocity of the flow for each branch of `context`. Without sound in `latents`, `context` or
    /// `positions`, the video is predicted as if isolated from it.
    pub fn forward(
        &self,
        latents: Latents<'_>,
        times: &Times,
        context: &Context,
        positions: &Positions,
    ) -> Velocity {
        let input = |latents: &Tensor| latents.to_device(self.device).to_kind(self.kind);
        let mut video = self.video.embed(&input(latents.video));
        if let (Some(marks), Some(embedding)) = (&positions.keyframes, &self.keyframes) {
            video += marks * embedding;
        }
        let audio = latents.audio.filter(|_| context.audio.is_some() && positions.audio.is_some());
        let audio = audio.map(|audio| self.audio.embed(&input(audio)));
        let noise = self.noise(times, audio.is_some());
        let mut state = State::new(video, audio, context);
        for index in 0..self.across.len() {
            self.block(index, &mut state, &noise, positions);
        }
        let audio = state.audio.as_ref().zip(noise.audio.as_ref());
        Velocity {
            audio: audio.map(|(audio, noise)| state.of_branches(self.audio.finish(audio, noise))),
            video: state.of_branches(self.video.finish(&state.video, &noise.video)),
        }
    }

    fn noise(&self, times: &Times, with_audio: bool) -> StepNoise {
        let (across_video, across_audio) = match times.across {
            true => (Timesteps::uniform(times.audio_sigma), Timesteps::uniform(times.sigma)),
            false => (times.video.shallow_clone(), times.audio.shallow_clone()),
        };
        StepNoise {
            video: self.video.noise(&times.video, &across_video, times.sigma),
            audio: with_audio.then(|| self.audio.noise(&times.audio, &across_audio, times.audio_sigma)),
        }
    }

    fn block(&self, index: usize, state: &mut State<'_>, noise: &StepNoise, positions: &Positions) {
        let context = state.context;
        let block = &self.video.blocks[index];
        let vectors = block.vectors(&noise.video.own);
        let audio = self.audio.blocks.get(index).zip(noise.audio.as_ref()).zip(positions.audio.as_ref());
        let audio =
            audio.map(|((block, noise), positions)| (block, noise, positions, block.vectors(&noise.own)));

        let perturbed = state.perturbed(index);
        state.video = block.attend_self(state.video.shallow_clone(), &vectors, &positions.video, &perturbed);
        if let (Some((block, _, positions, vectors)), Some(hidden)) = (&audio, &mut state.audio) {
            *hidden = block.attend_self(hidden.shallow_clone(), vectors, &positions.own, &perturbed);
        }
        if index == 0 {
            state.split(|branch| branch.prompt);
        }
        let lanes = (state.prompts.as_ref(), state.mask.as_ref());
        let hidden = state.video.shallow_clone();
        state.video = self.video.attend_text(index, hidden, (&vectors, &noise.video), &context.video, lanes);
        if let (Some((_, noise, _, vectors)), Some(hidden), Some(states)) =
            (&audio, &mut state.audio, &context.audio)
        {
            *hidden = self.audio.attend_text(index, hidden.shallow_clone(), (vectors, noise), states, lanes);
        }
        if let Some((_, audio_noise, positions, _)) = &audio {
            if index == 0 {
                state.split(|branch| branch.isolated);
            }
            state.across(&self.across[index], [&noise.video.across, &audio_noise.across], positions);
        }
        state.video = block.feed(state.video.shallow_clone(), &vectors);
        if let (Some((block, _, _, vectors)), Some(hidden)) = (&audio, &mut state.audio) {
            *hidden = block.feed(hidden.shallow_clone(), vectors);
        }
    }
}

/// Vectors of a step's noise levels for both streams.
struct StepNoise {
    video: Noise,
    audio: Option<Noise>,
}
