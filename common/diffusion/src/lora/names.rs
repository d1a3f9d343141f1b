//! The names of a checkpoint's layers, and what LoRAs call them.

use std::collections::HashMap;
use std::path::Path;

use videosdgx_tensor::{Checkpoint, CheckpointError, StoredDtype, TensorEntry};

/// How LoRAs of a model family name its layers.
#[derive(Debug, Clone, Copy)]
pub struct LoraNames {
    /// Component of the checkpoint whose layers they change, also the prefix of keys in diffusers' layout: `transformer`.
    pub component: &'static str,
    /// Whole segments of layer names in the checkpoint, and the segments that the model's original program has in their
    /// place: `("attn1.to_q", "self_attn.q")` for `blocks.0.attn1.to_q` and `blocks.0.self_attn.q`. All pairs apply, in
    /// their order.
    pub original: &'static [(&'static str, &'static str)],
}

impl LoraNames {
    /// The original program's name of the layer `name`.
    pub(super) fn original(&self, name: &str) -> String {
        let mut dotted = format!(".{name}.");
        for (ours, theirs) in self.original {
            dotted = dotted.replacen(&format!(".{ours}."), &format!(".{theirs}."), 1);
        }
        dotted.trim_matches('.').to_owned()
    }
}

/// The linear layers of a checkpoint's component, from its header.
#[derive(Debug)]
pub struct CheckpointLayers {
    /// Shape `[outputs, inputs]` by name; unknown for weights that are stored in 4 bits.
    shapes: HashMap<String, Option<[i64; 2]>>,
    names: LayerIndex,
}

impl CheckpointLayers {
    /// The layers of the component `names` are for, in the checkpoint `folder`.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(folder: &Path, names: &LoraNames) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::open(folder.join(names.component))?;
        let entries = checkpoint.names().filter_map(|key| Some((key, checkpoint.entry(key)?)));
        let shapes: HashMap<_, _> = entries
            .filter_map(|(key, entry)| layer(key, entry))
            .map(|(name, shape)| (name.to_owned(), shape))
            .collect();
        let names = LayerIndex::new(names, shapes.keys().map(String::as_str));
        Ok(Self { shapes, names })
    }

    pub(super) fn names(&self) -> &LayerIndex {
        &self.names
    }

    /// `[outputs, inputs]` of a layer, if the header tells.
    pub(super) fn shape(&self, layer: &str) -> Option<[i64; 2]> {
        self.shapes.get(layer).copied().flatten()
    }
}

/// The linear layer that a tensor is the weight of.
fn layer<'a>(key: &'a str, entry: &TensorEntry) -> Option<(&'a str, Option<[i64; 2]>)> {
    use StoredDtype::{Bf16, F8E4M3, F16, F32, F64};
    let (name, is_packed) = match key.strip_suffix(".weight") {
        Some(name) => (name, !matches!(entry.kind, F64 | F32 | F16 | Bf16 | F8E4M3)),
        None => (key.strip_suffix(".weight_packed")?, true),
    };
    let shape: [i64; 2] = entry.shape.as_slice().try_into().ok()?;
    Some((name, (!is_packed).then_some(shape)))
}

/// Finds layers by the names that LoRAs give them.
#[derive(Debug)]
pub(super) struct LayerIndex {
    component: &'static str,
    /// The checkpoint's own name, and whether the key is the original program's.
    by_name: HashMap<String, (String, bool)>,
    /// The checkpoint's own name by names with underscores in place of dots.
    by_flat_name: HashMap<String, String>,
}

impl LayerIndex {
    pub(super) fn new<'a>(names: &LoraNames, layers: impl Iterator<Item = &'a str>) -> Self {
        let (mut by_name, mut by_flat_name) = (HashMap::new(), HashMap::new());
        for layer in layers {
            let original = names.original(layer);
            for name in [layer, &original] {
                by_flat_name.insert(name.replace('.', "_"), layer.to_owned());
            }
            if original != layer {
                by_name.insert(original, (layer.to_owned(), true));
            }
            // The checkpoint's own name counts if another layer is called the same originally.
            by_name.insert(layer.to_owned(), (layer.to_owned(), false));
        }
        Self { component: names.component, by_name, by_flat_name }
    }

    /// Prefix of keys in diffusers' layout, without its dot.
    pub(super) fn component(&self) -> &'static str {
        self.component
    }

    /// The layer's own name, and whether `name` is the original program's and not its own.
    pub(super) fn find(&self, name: &str) -> Option<(&str, bool)> {
        self.by_name.get(name).map(|(layer, is_original)| (layer.as_str(), *is_original))
    }

    /// The own name of the layer that kohya's programs call `name`.
    pub(super) fn find_flat(&self, name: &str) -> Option<&str> {
        self.by_flat_name.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: LoraNames = LoraNames {
        component: "transformer",
        original: &[("attn1.to_q", "self_attn.q"), ("proj_out", "head.head")],
    };

    #[test]
    fn layers_are_found_by_every_name() {
        let index =
            LayerIndex::new(&NAMES, ["blocks.0.attn1.to_q", "blocks.10.attn1.to_q", "proj_out"].into_iter());
        assert_eq!(index.find("blocks.10.attn1.to_q"), Some(("blocks.10.attn1.to_q", false)));
        assert_eq!(index.find("blocks.10.self_attn.q"), Some(("blocks.10.attn1.to_q", true)));
        assert_eq!(index.find("head.head"), Some(("proj_out", true)));
        assert_eq!(index.find_flat("blocks_0_self_attn_q"), Some("blocks.0.attn1.to_q"));
        assert_eq!(index.find_flat("blocks_0_attn1_to_q"), Some("blocks.0.attn1.to_q"));
        assert_eq!(index.find("blocks.1.self_attn.q"), None);
        assert_eq!(NAMES.original("x.attn1.to_qk"), "x.attn1.to_qk", "only whole segments are replaced");
    }
}
