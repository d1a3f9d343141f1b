//! What a model will take, said before it is loaded: from headers and configuration alone.

use videosdgx_gguf::GgmlType;
use videosdgx_tensor::{Quantization, StoredDtype, TensorEntry};

use crate::names::VISION;
use crate::{Attention, FeedForward, LoadOptions, Source};

/// Most rows of a step that are planned for: chunks of prompts and running sequences together.
const STEP_ROWS: u64 = 1024;
/// Most rows of logits.
const LOGIT_ROWS: u64 = 32;
/// Most patches of a picture that are planned for.
const PATCHES: u64 = 1 << 14;
/// What libtorch and a step's odds and ends take.
const OVERHEAD: u64 = 128 << 20;

/// Bytes that a model takes, the cache aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Held as long as it is loaded.
    pub weights: u64,
    /// Beside the weights while loading, at most.
    pub loading: u64,
    /// Beside the weights while computing, at most.
    pub computing: u64,
}

impl MemoryNeed {
    /// The most at any time.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.weights.saturating_add(self.loading.max(self.computing))
    }
}

impl Source {
    /// What loading with `options` and computing will take; the cache comes on top.
    #[must_use]
    pub fn memory(&self, options: &LoadOptions) -> MemoryNeed {
        let (mut weights, mut loading) = (0u64, 0u64);
        for (name, entry) in self.used() {
            let held = self.held_bytes(name, entry, options);
            weights = weights.saturating_add(held);
            // As stored, on the way to its form; neighbours in a layer are read, then joined to one.
            let copies = if self.in_layers(name) { 4 } else { 1 };
            loading = loading.max(entry.bytes.saturating_mul(copies));
        }
        MemoryNeed { weights, loading: loading + OVERHEAD, computing: self.computing_bytes() + OVERHEAD }
    }

    /// Numbers that the model is made of.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let weights = self.used().filter(|(name, entry)| !is_scale(name) && entry.kind != StoredDtype::F64);
        weights.map(|(_, entry)| elements(entry)).fold(0, u64::saturating_add)
    }

    /// Bytes of the cache a token.
    #[must_use]
    pub fn cache_bytes_per_token(&self, options: &LoadOptions) -> u64 {
        let width = self.config.cache_width().unsigned_abs();
        width * self.config.layers.len() as u64 * options.cache_kind.elt_size_in_bytes() as u64
    }

    /// What the weights of the layers are held in: `options`' quantisation, or what the file has.
    #[must_use]
    pub fn format(&self, options: &LoadOptions) -> String {
        let mut largest: (u64, String) = (0, Quantization::None.to_string());
        let mut bytes = std::collections::HashMap::<String, u64>::new();
        for (name, entry) in self.used().filter(|(name, entry)| self.in_layers(name) && entry.shape.len() > 1)
        {
            let word = match entry.kind {
                StoredDtype::F8E4M3 if !is_scale(name) => "fp8".to_owned(),
                StoredDtype::Packed(kind) => kind.name().to_ascii_lowercase(),
                StoredDtype::U8 if self.checkpoint.entry(&format!("{name}.quant_map")).is_some() => {
                    "nf4".to_owned()
                }
                StoredDtype::U8 => "nvfp4".to_owned(),
                _ => options.quantization.to_string(),
            };
            let sum = bytes.entry(word.clone()).or_default();
            *sum += entry.bytes;
            if *sum > largest.0 {
                largest = (*sum, word);
            }
        }
        largest.1
    }

    /// Tensors that are loaded.
    fn used(&self) -> impl Iterator<Item = (&str, &TensorEntry)> {
        let names = self.checkpoint.names().filter(|name| !self.is_superfluous(name));
        names.filter_map(|name| Some((name, self.checkpoint.entry(name)?)))
    }

    fn held_bytes(&self, name: &str, entry: &TensorEntry, options: &LoadOptions) -> u64 {
        let element = options.kind.elt_size_in_bytes() as u64;
        let count = elements(entry);
        match entry.kind {
            StoredDtype::Packed(kind) if options.device == tch::Device::Cpu => block_bytes(kind, count),
            StoredDtype::F64 | StoredDtype::F32 | StoredDtype::F16 | StoredDtype::Bf16
                if self.is_linear(name, entry) =>
            {
                options.quantization.weight_bytes(count, element)
            }
            StoredDtype::F64 | StoredDtype::F32 | StoredDtype::F16 | StoredDtype::Bf16 => {
                count.saturating_mul(element)
            }
            _ => entry.bytes,
        }
    }

    /// Whether it is a weight that is quantised while loading.
    fn is_linear(&self, name: &str, entry: &TensorEntry) -> bool {
        let kept = ["mlp.gate.weight", "ffn_gate_inp", "kv_b_proj"];
        self.in_layers(name) && entry.shape.len() >= 2 && !kept.iter().any(|kept| name.contains(kept))
    }

    fn in_layers(&self, name: &str) -> bool {
        let first = self.layout.layer(self.config.family, 0);
        name.starts_with(first.trim_end_matches('0'))
    }

    fn computing_bytes(&self) -> u64 {
        let config = &self.config;
        let attention = match &config.attention {
            Attention::Grouped(grouped) => 2 * (grouped.heads + grouped.kv_heads) * grouped.head_dim,
            Attention::Latent(latent) => 3 * latent.heads * (latent.latent + latent.rope_dim),
        };
        let feed_forward = config.layers.iter().map(|layer| match layer {
            FeedForward::Dense { intermediate, .. } => 3 * intermediate,
            FeedForward::Sparse(sparse) => {
                3 * sparse.intermediate * sparse.top_k + 3 * sparse.shared_intermediate.unwrap_or(0)
            }
        });
        let row = (8 * config.hidden + attention.max(feed_forward.max().unwrap_or(0))).unsigned_abs();
        let logits = 3 * LOGIT_ROWS * config.vocab.unsigned_abs();
        let vision = match self.vision() {
            Ok(Some(vision)) => {
                PATCHES * (6 * vision.hidden + vision.intermediate + vision.patch_values()).unsigned_abs()
            }
            _ => 0,
        };
        4 * (STEP_ROWS * row + logits + vision)
    }

    /// Tensors that are never read: of layers that predict further tokens, a head that is the embedding, and what the
    /// configuration says anyway.
    pub(crate) fn is_superfluous(&self, name: &str) -> bool {
        crate::load::is_superfluous(&self.config, self.layout, name) && !name.starts_with(VISION)
    }
}

fn elements(entry: &TensorEntry) -> u64 {
    entry.shape.iter().map(|size| size.unsigned_abs()).fold(1, u64::saturating_mul)
}

/// Whether it belongs to a quantised weight's form.
fn is_scale(name: &str) -> bool {
    ["scale", "scale_inv", "scale_2", "absmax", "quant_map"].iter().any(|end| name.ends_with(end))
        || name.contains(".quant_state.")
}

/// Bytes of `count` values as the CPU's kernels hold them: 4 or 8 bits, with scales (and minimums) a block.
fn block_bytes(kind: GgmlType, count: u64) -> u64 {
    let of_32 = match kind {
        GgmlType::Q4_0 => 18,
        GgmlType::Q4_1 => 20,
        GgmlType::Q8_0 => 34,
        GgmlType::Q4K => 24,
        GgmlType::Q6K => 40,
        _ => 128,
    };
    (count / 32 + 1).saturating_mul(of_32)
}
