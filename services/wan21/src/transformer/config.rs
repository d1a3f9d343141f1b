//! Configuration of the transformer: `transformer/config.json`.

use serde::Deserialize;

/// Sizes of a Wan 2.1 transformer, named as diffusers names them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct TransformerConfig {
    /// Patch of latent frames, rows and columns that becomes one token.
    pub patch_size: [i64; 3],
    /// Number of attention heads.
    pub num_attention_heads: i64,
    /// Size of a head.
    pub attention_head_dim: i64,
    /// Latent channels in: 16 for text to video; 36 (latents, mask, condition) for image to video.
    pub in_channels: i64,
    /// Latent channels out.
    pub out_channels: Option<i64>,
    /// Size of a text embedding.
    pub text_dim: i64,
    /// Number of sines and cosines that encode the timestep.
    pub freq_dim: i64,
    /// Inner size of the feed-forward part.
    pub ffn_dim: i64,
    /// Number of blocks.
    pub num_layers: i64,
    /// Whether cross-attention has a norm before it.
    pub cross_attn_norm: bool,
    /// Norm of queries and keys; only `rms_norm_across_heads` is supported.
    pub qk_norm: Option<String>,
    /// Epsilon of the norms.
    pub eps: f64,
    /// Size of an image embedding; absent for text to video.
    pub image_dim: Option<i64>,
    /// Input size of the image keys and values; absent for text to video.
    pub added_kv_proj_dim: Option<i64>,
    /// Most patches along an axis.
    pub rope_max_seq_len: i64,
    /// Set only for first-and-last-frame models, which are not supported.
    pub pos_embed_seq_len: Option<i64>,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            patch_size: [1, 2, 2],
            num_attention_heads: 40,
            attention_head_dim: 128,
            in_channels: 16,
            out_channels: Some(16),
            text_dim: 4096,
            freq_dim: 256,
            ffn_dim: 13824,
            num_layers: 40,
            cross_attn_norm: true,
            qk_norm: Some("rms_norm_across_heads".to_owned()),
            eps: 1e-6,
            image_dim: None,
            added_kv_proj_dim: None,
            rope_max_seq_len: 1024,
            pos_embed_seq_len: None,
        }
    }
}

impl TransformerConfig {
    /// Hidden size.
    pub fn width(&self) -> i64 {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Latent channels out.
    pub fn outputs(&self) -> i64 {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Whether its input has channels of a first frame beside the latents: image to video.
    pub fn takes_image(&self) -> bool {
        self.in_channels != self.outputs()
    }

    /// Elements of a patch of one channel.
    pub fn patch_elements(&self) -> i64 {
        self.patch_size.iter().product()
    }

    /// Checks that this configuration is supported.
    ///
    /// # Errors
    /// The reason, for [`videosdgx_tensor::CheckpointError::Invalid`].
    pub fn check(&self) -> Result<(), String> {
        let sizes = [
            ("patch_size", self.patch_size.iter().copied().min().unwrap_or(0), 64),
            ("num_attention_heads", self.num_attention_heads, 1024),
            ("attention_head_dim", self.attention_head_dim, 1024),
            ("in_channels", self.in_channels, 1024),
            ("out_channels", self.outputs(), 1024),
            ("text_dim", self.text_dim, 1 << 16),
            ("freq_dim", self.freq_dim, 1 << 16),
            ("ffn_dim", self.ffn_dim, 1 << 20),
            ("num_layers", self.num_layers, 1024),
            ("image_dim", self.image_dim.unwrap_or(1), 1 << 16),
            ("added_kv_proj_dim", self.added_kv_proj_dim.unwrap_or(1), 1 << 16),
            ("rope_max_seq_len", self.rope_max_seq_len, 1 << 20),
        ];
        for (name, size, limit) in sizes {
            if !(1..=limit).contains(&size) {
                return Err(format!("{name} is {size}, not within 1 to {limit}"));
            }
        }
        if self.patch_size.iter().any(|&size| size > 64) {
            return Err(format!("patch_size is {:?}", self.patch_size));
        }
        if self.attention_head_dim % 2 != 0 || self.freq_dim % 2 != 0 || self.attention_head_dim < 6 {
            return Err(
                "attention_head_dim and freq_dim must be even, and attention_head_dim at least 6".to_owned()
            );
        }
        match self.qk_norm.as_deref() {
            Some("rms_norm_across_heads") => {}
            other => return Err(format!("qk_norm {other:?} is not supported; use rms_norm_across_heads")),
        }
        if self.pos_embed_seq_len.is_some() {
            return Err("pos_embed_seq_len: first-and-last-frame models are not supported".to_owned());
        }
        match (self.image_dim, self.added_kv_proj_dim) {
            (None, None) => Ok(()),
            (Some(_), Some(inputs)) if inputs == self.width() => Ok(()),
            _ => Err(
                "image_dim and added_kv_proj_dim must both be absent, or added_kv_proj_dim the hidden size"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sizes_are_the_defaults() {
        let config: TransformerConfig = serde_json::from_str("{}").expect("parses");
        assert_eq!((config.width(), config.outputs(), config.check()), (5120, 16, Ok(())));
    }

    #[test]
    fn unsupported_configurations_are_refused() {
        for text in [
            r#"{"num_layers":0}"#,
            r#"{"attention_head_dim":-2}"#,
            r#"{"patch_size":[1,0,2]}"#,
            r#"{"qk_norm":null}"#,
            r#"{"image_dim":1280}"#,
            r#"{"pos_embed_seq_len":514}"#,
            r#"{"num_attention_heads":9223372036854775807}"#,
        ] {
            let config: TransformerConfig = serde_json::from_str(text).expect("parses");
            assert!(config.check().is_err(), "{text}");
        }
    }
}
