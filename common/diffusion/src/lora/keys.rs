//! Keys of LoRA files: which layer they are for, what the tensor is, and in which layout they are written.

use super::names::LayerIndex;

/// What a tensor of a LoRA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `lora_A`, `[rank, in]`.
    Down,
    /// `lora_B`, `[out, rank]`.
    Up,
    /// Bias `[out]` of `lora_B`, scaled as that is.
    UpBias,
    /// A number: the product is multiplied by it and divided by the rank.
    Alpha,
    /// A difference of the whole weight, `[out, in]`.
    Difference,
    /// A difference of the bias, `[out]`.
    BiasDifference,
}

/// Suffixes of keys. The last value is whether only files in ComfyUI's layout have it.
const SUFFIXES: &[(&str, Role, bool)] = &[
    (".lora_A.weight", Role::Down, false),
    (".lora_B.weight", Role::Up, false),
    (".lora_A.default.weight", Role::Down, false),
    (".lora_B.default.weight", Role::Up, false),
    (".lora_B.bias", Role::UpBias, false),
    (".lora_B.default.bias", Role::UpBias, false),
    (".lora_down.weight", Role::Down, true),
    (".lora_up.weight", Role::Up, true),
    (".lora.down.weight", Role::Down, true),
    (".lora.up.weight", Role::Up, true),
    (".alpha", Role::Alpha, true),
    (".diff", Role::Difference, false),
    (".diff_b", Role::BiasDifference, false),
];

/// What programs write before the names of layers.
const PREFIXES: &[&str] = &["base_model.model.", "model.diffusion_model.", "diffusion_model."];
/// What kohya's programs write.
const KOHYA_PREFIX: &str = "lora_unet_";

/// A key of a layer that the model has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    /// The layer's name in the checkpoint.
    pub(super) layer: &'a str,
    pub(super) role: Role,
    pub(super) spelling: Spelling,
}

/// How one key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling {
    /// Underscores in place of dots.
    pub(super) is_flat: bool,
    /// Begins with `diffusion_model.`, or has the original program's name of the layer.
    pub(super) is_original: bool,
    /// Ends as ComfyUI's keys do.
    pub(super) is_comfy: bool,
}

/// The key `text` as one of a layer in `layers`; `None` if there is no such layer or the key is not of a LoRA.
pub(super) fn parse<'a>(text: &str, layers: &'a LayerIndex) -> Option<Key<'a>> {
    let (mut name, role, is_comfy) = SUFFIXES
        .iter()
        .find_map(|(suffix, role, is_comfy)| Some((text.strip_suffix(suffix)?, *role, *is_comfy)))?;
    if let Some(flat) = name.strip_prefix(KOHYA_PREFIX) {
        let layer = layers.find_flat(flat)?;
        return Some(Key { layer, role, spelling: Spelling { is_flat: true, is_original: false, is_comfy } });
    }
    let mut has_original_prefix = false;
    for prefix in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix) {
            has_original_prefix |= prefix.contains("diffusion_model");
            name = rest;
        }
    }
    let without_component = name.strip_prefix(layers.component()).and_then(|rest| rest.strip_prefix('.'));
    let (layer, is_original) =
        without_component.and_then(|rest| layers.find(rest)).or_else(|| layers.find(name))?;
    let is_original = is_original || has_original_prefix;
    Some(Key { layer, role, spelling: Spelling { is_flat: false, is_original, is_comfy } })
}

#[cfg(test)]
mod tests {
    use super::super::LoraNames;
    use super::*;

    fn layers() -> LayerIndex {
        let names = LoraNames { component: "transformer", original: &[("attn1.to_q", "self_attn.q")] };
        LayerIndex::new(&names, ["blocks.0.attn1.to_q"].into_iter())
    }

    #[test]
    fn every_layout_names_the_same_layer() {
        let layers = layers();
        for (key, role) in [
            ("transformer.blocks.0.attn1.to_q.lora_A.weight", Role::Down),
            ("blocks.0.attn1.to_q.lora_B.weight", Role::Up),
            ("base_model.model.blocks.0.attn1.to_q.lora_B.default.weight", Role::Up),
            ("transformer.blocks.0.attn1.to_q.lora_B.bias", Role::UpBias),
            ("transformer.blocks.0.attn1.to_q.lora.down.weight", Role::Down),
            ("diffusion_model.blocks.0.self_attn.q.lora_A.weight", Role::Down),
            ("diffusion_model.blocks.0.attn1.to_q.lora_A.weight", Role::Down),
            ("model.diffusion_model.blocks.0.self_attn.q.lora_up.weight", Role::Up),
            ("diffusion_model.blocks.0.self_attn.q.alpha", Role::Alpha),
            ("diffusion_model.blocks.0.self_attn.q.diff", Role::Difference),
            ("diffusion_model.blocks.0.self_attn.q.diff_b", Role::BiasDifference),
            ("blocks.0.self_attn.q.lora_down.weight", Role::Down),
            ("lora_unet_blocks_0_self_attn_q.lora_down.weight", Role::Down),
            ("lora_unet_blocks_0_self_attn_q.alpha", Role::Alpha),
        ] {
            let parsed = parse(key, &layers).unwrap_or_else(|| panic!("{key}"));
            assert_eq!((parsed.layer, parsed.role), ("blocks.0.attn1.to_q", role), "{key}");
        }
        for key in [
            "blocks.1.attn1.to_q.lora_A.weight",
            "blocks.0.attn1.to_q.weight",
            "blocks.0.attn1.to_q.dora_scale",
            "text_encoder.blocks.0.attn1.to_q.lora_A.weight",
            "lora_unet_blocks_0_self_attn_k.alpha",
            "",
        ] {
            assert_eq!(parse(key, &layers), None, "{key}");
        }
    }
}
