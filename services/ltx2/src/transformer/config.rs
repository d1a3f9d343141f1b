//! Configuration of the transformer: `transformer/config.json`.

use serde::Deserialize;

use crate::RopeType;
use crate::attention::AttentionShape;
use crate::rotary::Rotary;

/// Sizes and flags of an LTX-2 transformer, named as diffusers names them; the defaults are diffusers' too.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are diffusers'; what is not obvious is documented")]
pub struct TransformerConfig {
    pub in_channels: i64,
    pub out_channels: Option<i64>,
    /// Only 1.
    pub patch_size: i64,
    /// Only 1.
    pub patch_size_t: i64,
    pub num_attention_heads: i64,
    pub attention_head_dim: i64,
    /// Width of a prompt's tokens for the video; only the hidden size.
    pub cross_attention_dim: i64,
    /// Frames, rows and columns of the video for one of the latents.
    pub vae_scale_factors: [i64; 3],
    /// Seconds at which a rotary position is 1.
    pub pos_embed_max_pos: i64,
    /// Pixels at which a rotary position is 1.
    pub base_height: i64,
    pub base_width: i64,
    /// Whether attention to video, and of the video, has a gate for each head.
    pub gated_attn: bool,
    /// Whether the attention of the video to the prompt is modulated by the noise level.
    pub cross_attn_mod: bool,
    pub audio_in_channels: i64,
    pub audio_out_channels: Option<i64>,
    /// Only 1.
    pub audio_patch_size: i64,
    /// Only 1.
    pub audio_patch_size_t: i64,
    pub audio_num_attention_heads: i64,
    pub audio_attention_head_dim: i64,
    /// Width of a prompt's tokens for the sound; only the hidden size of the sound.
    pub audio_cross_attention_dim: i64,
    /// Frames of the spectrogram for one of the latents.
    pub audio_scale_factor: i64,
    pub audio_pos_embed_max_pos: i64,
    pub audio_sampling_rate: i64,
    pub audio_hop_length: i64,
    pub audio_gated_attn: bool,
    pub audio_cross_attn_mod: bool,
    pub num_layers: i64,
    /// Only `gelu-approximate`.
    pub activation_fn: String,
    /// Only `rms_norm_across_heads`.
    pub qk_norm: String,
    /// Only false.
    pub norm_elementwise_affine: bool,
    pub norm_eps: f64,
    /// Width of a prompt's tokens before their projection, if there is one.
    pub caption_channels: i64,
    pub attention_bias: bool,
    pub attention_out_bias: bool,
    pub rope_theta: f64,
    pub rope_double_precision: bool,
    pub causal_offset: i64,
    pub timestep_scale_multiplier: i64,
    pub cross_attn_timestep_scale_multiplier: i64,
    pub rope_type: RopeType,
    /// Whether the transformer projects the prompt (2.0); the connectors do later.
    pub use_prompt_embeddings: bool,
    /// Whether self-attention can be perturbed for spatio-temporal guidance.
    pub perturbed_attn: bool,
    pub ff_bias: bool,
    pub audio_ff_bias: bool,
    /// Whether the modulation of the prompt depends on the noise level.
    pub use_prompt_adaln_single: bool,
    /// Whether latent frames of a single picture are marked (2.5).
    pub use_keyframes_abs_pos_embedding: bool,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            in_channels: 128,
            out_channels: Some(128),
            patch_size: 1,
            patch_size_t: 1,
            num_attention_heads: 32,
            attention_head_dim: 128,
            cross_attention_dim: 4096,
            vae_scale_factors: [8, 32, 32],
            pos_embed_max_pos: 20,
            base_height: 2048,
            base_width: 2048,
            gated_attn: false,
            cross_attn_mod: false,
            audio_in_channels: 128,
            audio_out_channels: Some(128),
            audio_patch_size: 1,
            audio_patch_size_t: 1,
            audio_num_attention_heads: 32,
            audio_attention_head_dim: 64,
            audio_cross_attention_dim: 2048,
            audio_scale_factor: 4,
            audio_pos_embed_max_pos: 20,
            audio_sampling_rate: 16_000,
            audio_hop_length: 160,
            audio_gated_attn: false,
            audio_cross_attn_mod: false,
            num_layers: 48,
            activation_fn: "gelu-approximate".to_owned(),
            qk_norm: "rms_norm_across_heads".to_owned(),
            norm_elementwise_affine: false,
            norm_eps: 1e-6,
            caption_channels: 3840,
            attention_bias: true,
            attention_out_bias: true,
            rope_theta: 10_000.0,
            rope_double_precision: true,
            causal_offset: 1,
            timestep_scale_multiplier: 1000,
            cross_attn_timestep_scale_multiplier: 1000,
            rope_type: RopeType::Interleaved,
            use_prompt_embeddings: true,
            perturbed_attn: false,
            ff_bias: true,
            audio_ff_bias: true,
            use_prompt_adaln_single: true,
            use_keyframes_abs_pos_embedding: false,
        }
    }
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Modality {
    Video,
    Audio,
}

/// What differs between the streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamConfig {
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    pub(super) heads: i64,
    pub(super) head: i64,
    pub(super) gated: bool,
    /// Whether the attention to the prompt is modulated.
    pub(super) text_modulated: bool,
    pub(super) ff_bias: bool,
}

impl StreamConfig {
    /// Hidden size.
    pub(super) fn width(&self) -> i64 {
        self.heads * self.head
    }

    /// Number of modulation vectors of a block.
    pub(super) fn modulations(&self) -> i64 {
        if self.text_modulated { 9 } else { 6 }
    }
}

impl TransformerConfig {
    pub(super) fn stream(&self, modality: Modality) -> StreamConfig {
        match modality {
            Modality::Video => StreamConfig {
                inputs: self.in_channels,
                outputs: self.out_channels.unwrap_or(self.in_channels),
                heads: self.num_attention_heads,
                head: self.attention_head_dim,
                gated: self.gated_attn,
                text_modulated: self.cross_attn_mod,
                ff_bias: self.ff_bias,
            },
            Modality::Audio => StreamConfig {
                inputs: self.audio_in_channels,
                outputs: self.audio_out_channels.unwrap_or(self.audio_in_channels),
                heads: self.audio_num_attention_heads,
                head: self.audio_attention_head_dim,
                gated: self.audio_gated_attn,
                text_modulated: self.audio_cross_attn_mod,
                ff_bias: self.audio_ff_bias,
            },
        }
    }

    /// Hidden size of the video.
    pub fn width(&self) -> i64 {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Hidden size of the sound.
    pub fn audio_width(&self) -> i64 {
        self.audio_num_attention_heads * self.audio_attention_head_dim
    }

    /// Widths of a prompt's tokens that [`super::LtxTransformer::context`] takes: for the video and for the sound.
    pub fn prompt_widths(&self) -> [i64; 2] {
        match self.use_prompt_embeddings {
            true => [self.caption_channels; 2],
            false => [self.width(), self.audio_width()],
        }
    }

    /// Latent frames of sound for each second.
    pub fn audio_latents_per_second(&self) -> f64 {
        self.audio_sampling_rate as f64 / self.audio_hop_length as f64 / self.audio_scale_factor as f64
    }

    /// Whether the prompt is modulated in any way.
    pub(super) fn prompt_modulated(&self) -> bool {
        self.cross_attn_mod || self.audio_cross_attn_mod
    }

    /// Whether the modulation of the prompt depends on the noise level, so that its keys and values do, too.
    pub(super) fn prompt_follows_noise(&self) -> bool {
        self.prompt_modulated() && self.use_prompt_adaln_single
    }

    /// Attention in which tokens of `queries` attend to tokens of width `context`, with the heads of `heads`.
    pub(super) fn attention(
        &self,
        queries: StreamConfig,
        heads: StreamConfig,
        context: i64,
    ) -> AttentionShape {
        AttentionShape {
            queries: queries.width(),
            context,
            heads: heads.heads,
            head: heads.head,
            bias: self.attention_bias,
            output_bias: self.attention_out_bias,
            gated: queries.gated,
        }
    }

    /// Rotary embedding of the attention of a stream to itself.
    pub(super) fn rotary(&self, modality: Modality) -> Rotary {
        let stream = self.stream(modality);
        self.rotary_of(stream.width(), stream.heads)
    }

    /// Rotary embedding of the attention between the streams, for tokens of `modality`.
    pub(super) fn cross_rotary(&self, modality: Modality) -> Rotary {
        self.rotary_of(self.audio_cross_attention_dim, self.stream(modality).heads)
    }

    fn rotary_of(&self, width: i64, heads: i64) -> Rotary {
        Rotary {
            width,
            heads,
            theta: self.rope_theta,
            double_precision: self.rope_double_precision,
            rope_type: self.rope_type,
        }
    }

    /// Checks that this configuration is supported.
    ///
    /// # Errors
    /// The reason, for [`videosdgx_tensor::CheckpointError::Invalid`].
    pub fn check(&self) -> Result<(), String> {
        let [frames, rows, columns] = self.vae_scale_factors;
        let (video, audio) = (self.stream(Modality::Video), self.stream(Modality::Audio));
        let sizes = [
            ("patch_size", self.patch_size, 1),
            ("patch_size_t", self.patch_size_t, 1),
            ("audio_patch_size", self.audio_patch_size, 1),
            ("audio_patch_size_t", self.audio_patch_size_t, 1),
            ("in_channels", video.inputs, 4096),
            ("out_channels", video.outputs, 4096),
            ("audio_in_channels", audio.inputs, 4096),
            ("audio_out_channels", audio.outputs, 4096),
            ("num_attention_heads", video.heads, 1024),
            ("attention_head_dim", video.head, 1024),
            ("audio_num_attention_heads", audio.heads, 1024),
            ("audio_attention_head_dim", audio.head, 1024),
            ("vae_scale_factors", frames.min(rows).min(columns), 1024),
            ("vae_scale_factors", frames.max(rows).max(columns), 1024),
            ("audio_scale_factor", self.audio_scale_factor, 1024),
            ("pos_embed_max_pos", self.pos_embed_max_pos, 1 << 20),
            ("audio_pos_embed_max_pos", self.audio_pos_embed_max_pos, 1 << 20),
            ("base_height", self.base_height, 1 << 20),
            ("base_width", self.base_width, 1 << 20),
            ("audio_sampling_rate", self.audio_sampling_rate, 1 << 20),
            ("audio_hop_length", self.audio_hop_length, 1 << 20),
            ("num_layers", self.num_layers, 1024),
            ("caption_channels", self.caption_channels, 1 << 16),
            ("timestep_scale_multiplier", self.timestep_scale_multiplier, 1 << 20),
            ("cross_attn_timestep_scale_multiplier", self.cross_attn_timestep_scale_multiplier, 1 << 20),
        ];
        for (name, size, limit) in sizes {
            if !(1..=limit).contains(&size) {
                return Err(format!("{name} is {size}, not within 1 to {limit}"));
            }
        }
        if !(0..=1024).contains(&self.causal_offset) {
            return Err(format!("causal_offset is {}, not within 0 to 1024", self.causal_offset));
        }
        for (name, head) in [("attention_head_dim", video.head), ("audio_attention_head_dim", audio.head)] {
            if head % 2 != 0 {
                return Err(format!("{name} is {head}, not even"));
            }
        }
        for (name, given, needed) in [
            ("cross_attention_dim", self.cross_attention_dim, video.width()),
            ("audio_cross_attention_dim", self.audio_cross_attention_dim, audio.width()),
        ] {
            if given != needed {
                return Err(format!("{name} is {given}; only the hidden size, {needed}, is supported"));
            }
        }
        if audio.width() % (2 * video.heads) != 0 || video.width() < 6 {
            return Err(format!(
                "num_attention_heads is {}, which does not divide half of the sound's hidden size",
                video.heads
            ));
        }
        if self.norm_elementwise_affine {
            return Err("norm_elementwise_affine is true, which is not supported".to_owned());
        }
        if self.activation_fn != "gelu-approximate" {
            let name = &self.activation_fn;
            return Err(format!("activation_fn {name:?} is not supported; use gelu-approximate"));
        }
        if self.qk_norm != "rms_norm_across_heads" {
            let name = &self.qk_norm;
            return Err(format!("qk_norm {name:?} is not supported; use rms_norm_across_heads"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sizes_are_the_defaults() {
        let config: TransformerConfig = serde_json::from_str(r#"{"rope_type":"split"}"#).expect("parses");
        assert_eq!((config.width(), config.audio_width(), config.check()), (4096, 2048, Ok(())));
        assert_eq!((config.rope_type, config.prompt_widths()), (RopeType::Split, [3840; 2]));
        assert_eq!(config.audio_latents_per_second(), 25.0);
    }

    #[test]
    fn unsupported_configurations_are_refused_by_name() {
        for (text, name) in [
            (r#"{"num_layers":0}"#, "num_layers"),
            (r#"{"patch_size":2}"#, "patch_size"),
            (r#"{"attention_head_dim":9223372036854775807}"#, "attention_head_dim"),
            (r#"{"attention_head_dim":127}"#, "attention_head_dim"),
            (r#"{"vae_scale_factors":[8,0,32]}"#, "vae_scale_factors"),
            (r#"{"cross_attention_dim":2048}"#, "cross_attention_dim"),
            (r#"{"num_attention_heads":48,"cross_attention_dim":6144}"#, "num_attention_heads"),
            (r#"{"norm_elementwise_affine":true}"#, "norm_elementwise_affine"),
            (r#"{"activation_fn":"geglu"}"#, "activation_fn"),
            (r#"{"qk_norm":"layer_norm"}"#, "qk_norm"),
            (r#"{"causal_offset":-1}"#, "causal_offset"),
        ] {
            let config: TransformerConfig = serde_json::from_str(text).expect("parses");
            let reason = config.check().expect_err(text);
            assert!(reason.starts_with(name), "{text}: {reason}");
        }
        assert!(serde_json::from_str::<TransformerConfig>(r#"{"rope_type":"spiral"}"#).is_err());
    }
}
