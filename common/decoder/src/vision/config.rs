//! `vision_config` of a checkpoint's `config.json`.

use serde_json::Value;

use crate::ConfigError;
use crate::config::Fields;

/// The configuration of a vision tower.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Number of blocks.
    pub depth: i64,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Width inside the feed-forward part of a block.
    pub intermediate: i64,
    /// Number of attention heads; the width of a head is a multiple of four.
    pub heads: i64,
    /// Channels of a picture.
    pub channels: i64,
    /// Side of a patch in pixels.
    pub patch: i64,
    /// Number of frames in a patch.
    pub temporal_patch: i64,
    /// Side, in patches, of the square that becomes one token.
    pub merge: i64,
    /// Width of the features: that of the text layers.
    pub out_hidden: i64,
    /// Side of the square table of learned positions.
    pub table_side: i64,
    /// Blocks after which features are taken, in order, for the first text layers.
    pub deepstack: Vec<i64>,
    /// Base of the rotary frequencies.
    pub theta: f64,
    /// Whether the GELU of the feed-forward part is approximated by tanh (`gelu_pytorch_tanh`).
    pub tanh_gelu: bool,
}

impl VisionConfig {
    /// Parses the object `vision_config`.
    ///
    /// # Errors
    /// [`ConfigError`] with the name of the field.
    pub fn parse(vision_config: &Value) -> Result<Self, ConfigError> {
        let fields = Fields::new(vision_config, "vision_config.");
        let heads = fields.size("num_heads", 1..=512)?;
        let hidden = fields.size("hidden_size", 1..=1 << 17)?;
        if hidden % heads != 0 || (hidden / heads) % 4 != 0 {
            return Err(fields.refuse(
                "num_heads",
                format!("is {heads}, and hidden_size {hidden} is not a multiple of four times that"),
            ));
        }
        let positions = fields.size("num_position_embeddings", 1..=1 << 24)?;
        let table_side = positions.isqrt();
        if table_side * table_side != positions {
            return Err(fields.refuse("num_position_embeddings", format!("is {positions}, not a square")));
        }
        let depth = fields.size("depth", 1..=512)?;
        let deepstack = fields.sizes("deepstack_visual_indexes", 0..=depth - 1)?.unwrap_or_default();
        if deepstack.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(fields.refuse("deepstack_visual_indexes", "is not in ascending order"));
        }
        let tanh_gelu = match fields.text("hidden_act")? {
            None | Some("gelu_pytorch_tanh") => true,
            Some("gelu") => false,
            Some(other) => {
                return Err(fields.refuse(
                    "hidden_act",
                    format!("is {other:?}, gelu_pytorch_tanh and gelu are supported"),
                ));
            }
        };
        let theta = match fields.get("rope_parameters") {
            None => None,
            Some(_) => {
                let rope = Fields::new(fields.object("rope_parameters")?, "vision_config.rope_parameters.");
                if let Some(kind) =
                    rope.text("rope_type")?.filter(|kind| !["axial", "default"].contains(kind))
                {
                    return Err(rope.refuse("rope_type", format!("is {kind:?}, \"axial\" is supported")));
                }
                rope.optional_number("rope_theta", 1.0..=1e12)?
            }
        };
        Ok(Self {
            depth,
            hidden,
            intermediate: fields.size("intermediate_size", 1..=1 << 20)?,
            heads,
            channels: fields.optional_size("in_channels", 1..=16)?.unwrap_or(3),
            patch: fields.optional_size("patch_size", 1..=256)?.unwrap_or(16),
            temporal_patch: fields.optional_size("temporal_patch_size", 1..=16)?.unwrap_or(2),
            merge: fields.optional_size("spatial_merge_size", 1..=16)?.unwrap_or(2),
            out_hidden: fields.size("out_hidden_size", 1..=1 << 17)?,
            table_side,
            deepstack,
            theta: theta.unwrap_or(1e4),
            tanh_gelu,
        })
    }

    /// Values in a patch.
    #[must_use]
    pub fn patch_values(&self) -> i64 {
        self.channels * self.temporal_patch * self.patch * self.patch
    }

    /// Width of a head.
    #[must_use]
    pub fn head(&self) -> i64 {
        self.hidden / self.heads
    }

    /// Every tensor of the tower with its shape, relative to the tower's prefix.
    #[must_use]
    pub fn expected_tensors(&self) -> Vec<(String, Vec<i64>)> {
        let mut list: Vec<(String, Vec<i64>)> = Vec::new();
        let mut linear = |name: String, outputs: i64, inputs: i64| {
            list.push((format!("{name}.weight"), vec![outputs, inputs]));
            list.push((format!("{name}.bias"), vec![outputs]));
        };
        let (hidden, merged) = (self.hidden, self.hidden * self.merge * self.merge);
        for index in 0..self.depth {
            linear(format!("blocks.{index}.attn.qkv"), 3 * hidden, hidden);
            linear(format!("blocks.{index}.attn.proj"), hidden, hidden);
            linear(format!("blocks.{index}.mlp.linear_fc1"), self.intermediate, hidden);
            linear(format!("blocks.{index}.mlp.linear_fc2"), hidden, self.intermediate);
        }
        let deepstack = (0..self.deepstack.len()).map(|index| format!("deepstack_merger_list.{index}"));
        for merger in std::iter::once("merger".to_owned()).chain(deepstack.clone()) {
            linear(format!("{merger}.linear_fc1"), merged, merged);
            linear(format!("{merger}.linear_fc2"), self.out_hidden, merged);
        }
        let mut vector = |name: String, width: i64| list.push((name, vec![width]));
        let blocks =
            (0..self.depth).flat_map(|index| ["norm1", "norm2"].map(|norm| format!("blocks.{index}.{norm}")));
        let norms = blocks.map(|name| (name, hidden)).chain([("merger.norm".to_owned(), hidden)]);
        for (name, width) in norms.chain(deepstack.map(|name| (format!("{name}.norm"), merged))) {
            vector(format!("{name}.weight"), width);
            vector(format!("{name}.bias"), width);
        }
        vector("patch_embed.proj.bias".to_owned(), hidden);
        let patch = [self.hidden, self.channels, self.temporal_patch, self.patch, self.patch];
        list.push(("patch_embed.proj.weight".to_owned(), patch.to_vec()));
        list.push(("pos_embed.weight".to_owned(), vec![self.table_side * self.table_side, hidden]));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    /// Of Qwen3-VL-2B-Instruct.
    fn published() -> Value {
        json!({
            "deepstack_visual_indexes": [5, 11, 17], "depth": 24, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 1024,
            "in_channels": 3, "initializer_range": 0.02, "intermediate_size": 4096, "model_type": "qwen3_vl",
            "num_heads": 16, "num_position_embeddings": 2304, "out_hidden_size": 2048, "patch_size": 16,
            "spatial_merge_size": 2, "temporal_patch_size": 2
        })
    }

    #[test]
    fn the_published_shape_is_read() {
        let config = VisionConfig::parse(&published()).expect("parses");
        assert_eq!((config.table_side, config.head(), config.patch_values()), (48, 64, 1536));
        assert_eq!(config.deepstack, [5, 11, 17]);
        let parameters: i64 =
            config.expected_tensors().iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
        assert_eq!(parameters, 406_957_056);
    }

    #[rstest]
    #[case("num_heads", json!(12), "vision_config.num_heads is 12")]
    #[case("num_position_embeddings", json!(2305), "vision_config.num_position_embeddings is 2305, not a square")]
    #[case("deepstack_visual_indexes", json!([24]), "vision_config.deepstack_visual_indexes is not a list")]
    #[case("deepstack_visual_indexes", json!([5, 5]), "vision_config.deepstack_visual_indexes is not in ascending order")]
    #[case("hidden_act", json!("relu"), "vision_config.hidden_act is \"relu\"")]
    #[case("patch_size", json!(0), "vision_config.patch_size is 0")]
    #[case("depth", json!(-1), "vision_config.depth is -1")]
    #[case("rope_parameters", json!({"rope_type": "yarn"}), "vision_config.rope_parameters.rope_type is \"yarn\"")]
    #[case("out_hidden_size", Value::Null, "vision_config.out_hidden_size is missing")]
    fn unsupported_fields_are_named(#[case] field: &str, #[case] value: Value, #[case] expected: &str) {
        let mut config = published();
        config[field] = value;
        let error = VisionConfig::parse(&config).expect_err("refused").to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
