//! Configuration of the connectors: `connectors/config.json`.

use serde::Deserialize;

use crate::RopeType;
use crate::attention::AttentionShape;
use crate::rotary::Rotary;

/// Sizes and flags of the text connectors, named as diffusers names them; the defaults are diffusers' too.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are diffusers'; what is not obvious is documented")]
pub struct ConnectorsConfig {
    /// Hidden size of the text encoder.
    pub caption_channels: i64,
    /// Number of the text encoder's hidden states: its layers, and the embedding.
    pub text_proj_in_factor: i64,
    pub video_connector_num_attention_heads: i64,
    pub video_connector_attention_head_dim: i64,
    pub video_connector_num_layers: i64,
    /// Tokens that fill the sequence after a prompt; absent is not supported.
    pub video_connector_num_learnable_registers: Option<i64>,
    pub video_gated_attn: bool,
    pub audio_connector_num_attention_heads: i64,
    pub audio_connector_attention_head_dim: i64,
    pub audio_connector_num_layers: i64,
    pub audio_connector_num_learnable_registers: Option<i64>,
    pub audio_gated_attn: bool,
    /// Position at which a rotary position is 1.
    pub connector_rope_base_seq_len: i64,
    pub rope_theta: f64,
    pub rope_double_precision: bool,
    pub rope_type: RopeType,
    /// Whether video and sound have projections of their own (2.3 and later).
    pub per_modality_projections: bool,
    /// Width of a prompt's tokens for the video, with projections of its own.
    pub video_hidden_dim: i64,
    pub audio_hidden_dim: i64,
    pub proj_bias: bool,
}

impl Default for ConnectorsConfig {
    fn default() -> Self {
        Self {
            caption_channels: 3840,
            text_proj_in_factor: 49,
            video_connector_num_attention_heads: 30,
            video_connector_attention_head_dim: 128,
            video_connector_num_layers: 2,
            video_connector_num_learnable_registers: Some(128),
            video_gated_attn: false,
            audio_connector_num_attention_heads: 30,
            audio_connector_attention_head_dim: 128,
            audio_connector_num_layers: 2,
            audio_connector_num_learnable_registers: Some(128),
            audio_gated_attn: false,
            connector_rope_base_seq_len: 4096,
            rope_theta: 10_000.0,
            rope_double_precision: true,
            rope_type: RopeType::Interleaved,
            per_modality_projections: false,
            video_hidden_dim: 4096,
            audio_hidden_dim: 2048,
            proj_bias: false,
        }
    }
}

/// One of the two connectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectorConfig {
    pub(super) heads: i64,
    pub(super) head: i64,
    pub(super) layers: i64,
    pub(super) registers: i64,
    pub(super) gated: bool,
}

impl ConnectorConfig {
    pub(super) fn width(&self) -> i64 {
        self.heads * self.head
    }

    pub(super) fn attention(&self) -> AttentionShape {
        AttentionShape {
            queries: self.width(),
            context: self.width(),
            heads: self.heads,
            head: self.head,
            bias: true,
            output_bias: true,
            gated: self.gated,
        }
    }
}

impl ConnectorsConfig {
    pub(super) fn video(&self) -> ConnectorConfig {
        ConnectorConfig {
            heads: self.video_connector_num_attention_heads,
            head: self.video_connector_attention_head_dim,
            layers: self.video_connector_num_layers,
            registers: self.video_connector_num_learnable_registers.unwrap_or(0),
            gated: self.video_gated_attn,
        }
    }

    pub(super) fn audio(&self) -> ConnectorConfig {
        ConnectorConfig {
            heads: self.audio_connector_num_attention_heads,
            head: self.audio_connector_attention_head_dim,
            layers: self.audio_connector_num_layers,
            registers: self.audio_connector_num_learnable_registers.unwrap_or(0),
            gated: self.audio_gated_attn,
        }
    }

    /// Widths of a prompt's tokens: for the video and for the sound.
    pub fn widths(&self) -> [i64; 2] {
        [self.video().width(), self.audio().width()]
    }

    /// A sequence is a multiple of this many tokens.
    pub fn sequence_step(&self) -> i64 {
        let (a, b) = (self.video().registers, self.audio().registers);
        let (mut divisor, mut rest) = (a, b);
        while rest != 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        a / divisor.max(1) * b
    }

    /// Width of all hidden states of a token together.
    pub(super) fn packed(&self) -> i64 {
        self.caption_channels * self.text_proj_in_factor
    }

    pub(super) fn rotary(&self, connector: ConnectorConfig) -> Rotary {
        Rotary {
            width: connector.width(),
            heads: connector.heads,
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
        for (name, registers) in [
            ("video_connector_num_learnable_registers", self.video_connector_num_learnable_registers),
            ("audio_connector_num_learnable_registers", self.audio_connector_num_learnable_registers),
        ] {
            if registers.is_none() {
                return Err(format!("{name} is absent; connectors without registers are not supported"));
            }
        }
        let (video, audio) = (self.video(), self.audio());
        let sizes = [
            ("caption_channels", self.caption_channels, 1 << 16),
            ("text_proj_in_factor", self.text_proj_in_factor, 1024),
            ("video_connector_num_attention_heads", video.heads, 1024),
            ("video_connector_attention_head_dim", video.head, 1024),
            ("video_connector_num_layers", video.layers, 1024),
            ("video_connector_num_learnable_registers", video.registers, 4096),
            ("audio_connector_num_attention_heads", audio.heads, 1024),
            ("audio_connector_attention_head_dim", audio.head, 1024),
            ("audio_connector_num_layers", audio.layers, 1024),
            ("audio_connector_num_learnable_registers", audio.registers, 4096),
            ("connector_rope_base_seq_len", self.connector_rope_base_seq_len, 1 << 20),
        ];
        for (name, size, limit) in sizes {
            if !(1..=limit).contains(&size) {
                return Err(format!("{name} is {size}, not within 1 to {limit}"));
            }
        }
        for (name, connector, needed) in [
            ("video_connector_num_attention_heads", video, self.video_hidden_dim),
            ("audio_connector_num_attention_heads", audio, self.audio_hidden_dim),
        ] {
            let needed = if self.per_modality_projections { needed } else { self.caption_channels };
            let ConnectorConfig { heads, head, .. } = connector;
            if connector.width() != needed {
                return Err(format!(
                    "{name}: {heads} heads of {head} are not the {needed} channels of the projection"
                ));
            }
            if head % 2 != 0 {
                return Err(format!("{name}: heads of {head} elements are not even"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sizes_are_supported() {
        let older: ConnectorsConfig = serde_json::from_str(r#"{"rope_type":"split"}"#).expect("parses");
        assert_eq!((older.check(), older.widths(), older.sequence_step()), (Ok(()), [3840; 2], 128));
        let newer: ConnectorsConfig = serde_json::from_str(
            r#"{"per_modality_projections":true,"video_connector_num_attention_heads":32,
                "audio_connector_num_attention_heads":32,"audio_connector_attention_head_dim":64}"#,
        )
        .expect("parses");
        assert_eq!((newer.check(), newer.widths()), (Ok(()), [4096, 2048]));
    }

    #[test]
    fn unsupported_configurations_are_refused_by_name() {
        for (text, name) in [
            (
                r#"{"video_connector_num_learnable_registers":null}"#,
                "video_connector_num_learnable_registers",
            ),
            (r#"{"audio_connector_num_learnable_registers":0}"#, "audio_connector_num_learnable_registers"),
            (r#"{"audio_connector_num_attention_heads":31}"#, "audio_connector_num_attention_heads"),
            (r#"{"per_modality_projections":true}"#, "video_connector_num_attention_heads"),
            (r#"{"text_proj_in_factor":0}"#, "text_proj_in_factor"),
        ] {
            let config: ConnectorsConfig = serde_json::from_str(text).expect("parses");
            let reason = config.check().expect_err(text);
            assert!(reason.starts_with(name), "{text}: {reason}");
        }
    }
}
