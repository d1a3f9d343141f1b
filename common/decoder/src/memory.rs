//! Estimates the memory of a model before it is loaded, from headers and configuration.

use videosdgx_gguf::GgmlType;
use videosdgx_tensor::{Quantization, StoredDtype, TensorEntry};

use crate::names::VISION;
use crate::{Attention, FeedForward, LoadOptions, Source};

/// Largest number of rows in a step that memory is planned for: chunks of prompts and running sequences together.
const STEP_ROWS: u64 = 1024;
/// Largest number of rows of logits in a step that memory is planned for.
const LOGIT_ROWS: u64 = 32;
/// Largest number of patches of a picture that memory is planned for.
const PATCHES: u64 = 1 << 14;
/// Bytes for libtorch and small temporary tensors.
const OVERHEAD: u64 = 128 << 20;

/// Estimated memory of a model in bytes, without the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights, as long as the model is loaded.
    pub weights: u64,
    /// Largest amount in addition to the weights while loading.
    pub loading: u64,
    /// Largest amount in addition to the weights while computing.
    pub computing: u64,
}

impl MemoryEstimate {
    /// The largest amount at any time.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.weights.saturating_add(self.loading.max(self.computing))
    }
}

impl Source {
    /// Estimates the memory for loading with `options` and for computing; the KV cache is not included.
    #[must_use]
    pub fn memory(&self, options: &LoadOptions) -> MemoryEstimate {
        let computing = self.computing_bytes([STEP_ROWS, LOGIT_ROWS]);
        self.estimate(options, computing, |_| true)
    }

    /// As [`Source::memory`], for the hidden states of `tokens` tokens ([`HiddenStates`](crate::HiddenStates)): without
    /// token embedding and output layer, with the result and the keys and values of one layer.
    #[must_use]
    pub fn hidden_states_memory(&self, options: &LoadOptions, tokens: u64) -> MemoryEstimate {
        let (config, element) = (&self.config, options.kind.elt_size_in_bytes() as u64);
        let row = config.hidden.unsigned_abs() * (config.layers.len() as u64 + 1)
            + config.cache_width().unsigned_abs();
        let computing = self.computing_bytes([tokens, 0]) + tokens * row * element;
        let unused = [self.names.embedding(), self.names.head().to_owned()];
        self.estimate(options, computing, |name| {
            !unused
                .iter()
                .any(|unused| name.strip_prefix(unused.as_str()).is_some_and(|rest| rest.starts_with('.')))
        })
    }

    fn estimate(
        &self,
        options: &LoadOptions,
        computing: u64,
        is_loaded: impl Fn(&str) -> bool,
    ) -> MemoryEstimate {
        let (mut weights, mut loading) = (0u64, 0u64);
        for (name, entry) in self.used().filter(|(name, _)| is_loaded(name)) {
            let held = self.held_bytes(name, entry, options);
            weights = weights.saturating_add(held);
            // As stored, before conversion; parts of a fused layer are read first and then joined.
            let copies = if self.in_layers(name) { 4 } else { 1 };
            loading = loading.max(entry.bytes.saturating_mul(copies));
        }
        MemoryEstimate { weights, loading: loading + OVERHEAD, computing: computing + OVERHEAD }
    }

    /// Number of parameters of the model.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let weights = self.used().filter(|(name, entry)| !is_scale(name) && entry.kind != StoredDtype::F64);
        weights.map(|(_, entry)| elements(entry)).fold(0, u64::saturating_add)
    }

    /// Bytes of the KV cache for each token.
    #[must_use]
    pub fn cache_bytes_per_token(&self, options: &LoadOptions) -> u64 {
        let width = self.config.cache_width().unsigned_abs();
        width * self.config.layers.len() as u64 * options.cache_kind.elt_size_in_bytes() as u64
    }

    /// The weight format of the layers: the quantisation in `options`, or that of the file.
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
        let names = self.checkpoint.names().filter(|name| !self.is_ignorable(name));
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

    /// Whether the tensor is a weight that is quantised while loading.
    fn is_linear(&self, name: &str, entry: &TensorEntry) -> bool {
        let kept = ["mlp.gate.weight", "ffn_gate_inp", "kv_b_proj"];
        self.in_layers(name) && entry.shape.len() >= 2 && !kept.iter().any(|kept| name.contains(kept))
    }

    fn in_layers(&self, name: &str) -> bool {
        let first = self.names.layer(0);
        name.starts_with(first.trim_end_matches('0'))
    }

    /// Of a step of `rows` rows, of which `logit_rows` have logits.
    fn computing_bytes(&self, [rows, logit_rows]: [u64; 2]) -> u64 {
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
        let logits = 3 * logit_rows * config.vocab.unsigned_abs();
        let vision = match self.vision() {
            Ok(Some(vision)) => {
                PATCHES * (6 * vision.hidden + vision.intermediate + vision.patch_values()).unsigned_abs()
            }
            _ => 0,
        };
        4 * (rows * row + logits + vision)
    }

    /// Whether a tensor is never read; see [`crate::load::is_ignorable`].
    pub(crate) fn is_ignorable(&self, name: &str) -> bool {
        crate::load::is_ignorable(&self.config, self.names, name) && !name.starts_with(VISION)
    }
}

fn elements(entry: &TensorEntry) -> u64 {
    entry.shape.iter().map(|size| size.unsigned_abs()).fold(1, u64::saturating_mul)
}

/// Whether the tensor is part of a quantised weight, such as its scales.
fn is_scale(name: &str) -> bool {
    let ends = [
        "scale",
        "scale_inv",
        "scale_2",
        "scale_weight",
        "scale_input",
        "absmax",
        "quant_map",
        "comfy_quant",
    ];
    ends.iter().any(|end| name.ends_with(end))
        || name.contains(".quant_state.")
        || name.ends_with("scaled_fp8")
}

/// Bytes of `count` values as the CPU kernels hold them: 4 or 8 bits each, with scales (and minimums) for each block.
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
