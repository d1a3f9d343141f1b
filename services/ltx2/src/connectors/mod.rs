//! The text connectors: from all hidden states of the text encoder to a prompt's tokens for video and sound
//! (`LTX2TextConnectors` of diffusers 0.42).

mod config;
mod connector;

use videosdgx_tensor::{Device, Kind, Linear, Tensor, TensorError, Weights};

pub use config::ConnectorsConfig;
use connector::Connector;

use crate::names::TensorList;

/// Epsilon of the normalisations of hidden states (fixed in the reference).
const EPS: f64 = 1e-6;
/// Factor of hidden states that were divided by their range (2.0; fixed in the reference).
const RANGE_FACTOR: f64 = 8.0;

/// The loaded connectors.
pub struct Connectors {
    config: ConnectorsConfig,
    projection: Projection,
    video: Connector,
    audio: Connector,
    kind: Kind,
    device: Device,
    resident_bytes: u64,
}

/// From packed hidden states to the connectors' widths.
enum Projection {
    /// One for both (2.0).
    Shared(Linear),
    /// One for the video and one for the sound (2.3 and later).
    PerModality([Linear; 2]),
}

/// A prompt's tokens in the compute type.
pub struct PromptTokens {
    /// `[length, width]`, for the video.
    pub video: Tensor,
    /// `[length, width]`, for the sound.
    pub audio: Tensor,
}

/// Every tensor of the published checkpoint of connectors with its shape, not quantised.
///
/// `config` is one that [`ConnectorsConfig::check`] accepts.
#[must_use]
pub fn expected_tensors(config: &ConnectorsConfig) -> Vec<(String, Vec<i64>)> {
    let mut list = TensorList::new();
    let (packed, bias) = (config.packed(), config.proj_bias);
    match config.per_modality_projections {
        true => {
            list.linear("video_text_proj_in", packed, config.video_hidden_dim, bias);
            list.linear("audio_text_proj_in", packed, config.audio_hidden_dim, bias);
        }
        false => list.linear("text_proj_in", packed, config.caption_channels, bias),
    }
    list.within("video_connector", |list| Connector::tensors(list, config.video()));
    list.within("audio_connector", |list| Connector::tensors(list, config.audio()));
    list.finish()
}

impl Connectors {
    /// Loads the connectors; linears are in the weights' quantised format.
    ///
    /// # Errors
    /// `Invalid` naming the file when the configuration or a tensor is not supported; `OutOfMemory`.
    pub fn load(weights: &Weights, config: ConnectorsConfig) -> Result<Self, TensorError> {
        config.check().map_err(|reason| {
            videosdgx_tensor::CheckpointError::invalid(
                weights.checkpoint().folder().join("config.json"),
                reason,
            )
        })?;
        let before = weights.resident_bytes();
        let (packed, bias) = (config.packed(), config.proj_bias);
        let projection = match config.per_modality_projections {
            true => Projection::PerModality([
                weights.linear("video_text_proj_in", packed, config.video_hidden_dim, bias)?,
                weights.linear("audio_text_proj_in", packed, config.audio_hidden_dim, bias)?,
            ]),
            false => {
                Projection::Shared(weights.linear("text_proj_in", packed, config.caption_channels, bias)?)
            }
        };
        let connector = |name, part| {
            Connector::load(&weights.at(name), part, config.rotary(part), config.connector_rope_base_seq_len)
        };
        Ok(Self {
            projection,
            video: connector("video_connector", config.video())?,
            audio: connector("audio_connector", config.audio())?,
            kind: weights.kind(),
            device: weights.device(),
            resident_bytes: weights.resident_bytes() - before,
            config,
        })
    }

    /// The configuration they were loaded with.
    pub fn config(&self) -> &ConnectorsConfig {
        &self.config
    }

    /// Bytes of the weights in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Connects one prompt.
    ///
    /// `hidden`: the text encoder's hidden states, the embedding first, each `[tokens, caption_channels]` in any
    /// floating type, **without** the padding; `length`: tokens of the padded sequence, at least as many, and a multiple
    /// of [`ConnectorsConfig::sequence_step`]. The padding would be replaced by learnt registers, so it is not computed.
    /// All tokens of the result belong to the prompt: no mask is needed.
    pub fn forward(&self, hidden: &[Tensor], length: i64) -> PromptTokens {
        let [video, audio] = match &self.projection {
            Projection::Shared(projection) => {
                let projected = projection.forward(&self.packed_by_range(hidden));
                [projected.shallow_clone(), projected]
            }
            Projection::PerModality(projections) => {
                let packed = self.packed_by_token(hidden);
                let widths = [self.config.video_hidden_dim, self.config.audio_hidden_dim];
                let scaled = widths.map(|width| {
                    let factor = (width as f64 / self.config.caption_channels as f64).sqrt();
                    (&packed * factor).to_kind(self.kind)
                });
                [projections[0].forward(&scaled[0]), projections[1].forward(&scaled[1])]
            }
        };
        PromptTokens { video: self.video.forward(&video, length), audio: self.audio.forward(&audio, length) }
    }

    /// Each hidden state less its mean, divided by its range over all tokens and channels (2.0).
    fn packed_by_range(&self, hidden: &[Tensor]) -> Tensor {
        self.packed(hidden, self.kind, |state| {
            let elements = state.numel() as f64;
            let mean = state.sum(Kind::Float) / (elements + EPS);
            let range = state.max() - state.min() + EPS;
            (state - mean) / range * RANGE_FACTOR
        })
    }

    /// Each token of each hidden state divided by its root mean square (2.3 and later).
    fn packed_by_token(&self, hidden: &[Tensor]) -> Tensor {
        self.packed(hidden, Kind::Float, |state| {
            let mean = state.square().mean_dim([-1i64].as_slice(), true, Kind::Float);
            state * (mean + EPS).rsqrt()
        })
    }

    /// `normalize` of each state in f32 → `[1, tokens, channels · states]` in `kind`, the states of a channel side by
    /// side.
    fn packed(&self, hidden: &[Tensor], kind: Kind, normalize: impl Fn(Tensor) -> Tensor) -> Tensor {
        let (states, channels) = (self.config.text_proj_in_factor, self.config.caption_channels);
        assert!(hidden.len() as i64 == states, "{} hidden states, {states} are needed", hidden.len());
        let tokens = hidden.first().map_or(0, |state| state.size()[0]);
        let packed = Tensor::empty([1, tokens, channels, states], (kind, self.device));
        if tokens > 0 {
            for (index, state) in hidden.iter().enumerate() {
                let wide = state.to_device(self.device).to_kind(Kind::Float);
                packed.select(-1, index as i64).select(0, 0).copy_(&normalize(wide));
            }
        }
        packed.view([1, tokens, channels * states])
    }
}
