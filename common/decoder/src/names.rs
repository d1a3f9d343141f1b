//! Names of a decoder's tensors in the published layouts.

use crate::{Attention, DecoderConfig, Family, FeedForward, QueryProjection, Routing};

/// The naming scheme of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// transformers' safetensors.
    Transformers,
    /// llama.cpp's GGUF.
    Gguf,
}

/// A tensor, a linear layer, or a module with several of them, in a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    InputNorm,
    Query,
    Key,
    Value,
    Output,
    QueryNorm,
    KeyNorm,
    /// Of the output of attention, where a family has it.
    AttentionOutputNorm,
    MlpNorm,
    /// Of the output of feed-forward, where a family has it.
    MlpOutputNorm,
    Gate,
    Up,
    Down,
    Router,
    Experts,
}

/// The names of a checkpoint's tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    layout: Layout,
    /// Prefix of the text part in transformers' layout.
    text: &'static str,
    /// Whether the family normalises the outputs of attention and feed-forward.
    output_norms: bool,
}

impl Names {
    /// The names in `layout`. Of the prefixes that files of the family have, that with which `contains` finds the
    /// token embedding, else the first.
    pub(crate) fn new(layout: Layout, config: &DecoderConfig, contains: impl Fn(&str) -> bool) -> Self {
        let prefixes = prefixes(config.family);
        let named = |text: &'static str| Self { layout, text, output_norms: config.block.output_norms };
        let found = prefixes
            .iter()
            .map(|text| named(text))
            .find(|names| contains(&format!("{}.weight", names.embedding())));
        found.unwrap_or_else(|| named(prefixes[0]))
    }

    /// The naming scheme.
    pub(crate) fn layout(self) -> Layout {
        self.layout
    }

    /// The token embedding.
    pub(crate) fn embedding(self) -> String {
        match self.layout {
            Layout::Transformers => format!("{}.embed_tokens", self.text),
            Layout::Gguf => "token_embd".into(),
        }
    }

    /// The norm before the head.
    pub(crate) fn final_norm(self) -> String {
        match self.layout {
            Layout::Transformers => format!("{}.norm", self.text),
            Layout::Gguf => "output_norm".into(),
        }
    }

    /// The output layer, if it is not tied to the embedding.
    pub(crate) fn head(self) -> &'static str {
        match self.layout {
            Layout::Transformers if self.text == NESTED => "language_model.lm_head",
            Layout::Transformers => "lm_head",
            Layout::Gguf => "output",
        }
    }

    /// Layer `index`.
    pub(crate) fn layer(self, index: usize) -> String {
        match self.layout {
            Layout::Transformers => format!("{}.layers.{index}", self.text),
            Layout::Gguf => format!("blk.{index}"),
        }
    }

    /// A part of a layer, relative to the layer's name.
    pub(crate) fn part(self, part: Part) -> &'static str {
        match self.layout {
            Layout::Transformers => match part {
                Part::InputNorm => "input_layernorm",
                Part::Query => "self_attn.q_proj",
                Part::Key => "self_attn.k_proj",
                Part::Value => "self_attn.v_proj",
                Part::Output => "self_attn.o_proj",
                Part::QueryNorm => "self_attn.q_norm",
                Part::KeyNorm => "self_attn.k_norm",
                Part::AttentionOutputNorm => "post_attention_layernorm",
                Part::MlpNorm if self.output_norms => "pre_feedforward_layernorm",
                Part::MlpNorm => "post_attention_layernorm",
                Part::MlpOutputNorm => "post_feedforward_layernorm",
                Part::Gate => "mlp.gate_proj",
                Part::Up => "mlp.up_proj",
                Part::Down => "mlp.down_proj",
                Part::Router => "mlp.gate",
                Part::Experts => "mlp",
            },
            Layout::Gguf => match part {
                Part::InputNorm => "attn_norm",
                Part::Query => "attn_q",
                Part::Key => "attn_k",
                Part::Value => "attn_v",
                Part::Output => "attn_output",
                Part::QueryNorm => "attn_q_norm",
                Part::KeyNorm => "attn_k_norm",
                Part::AttentionOutputNorm => "post_attention_norm",
                Part::MlpNorm => "ffn_norm",
                Part::MlpOutputNorm => "post_ffw_norm",
                Part::Gate => "ffn_gate",
                Part::Up => "ffn_up",
                Part::Down => "ffn_down",
                Part::Router => "ffn_gate_inp",
                Part::Experts => "",
            },
        }
    }
}

/// Prefix of the vision tower in a transformers checkpoint.
pub(crate) const VISION: &str = "model.visual";

/// Prefix of the text part in published files of vision models since transformers 4.40, and in what transformers 5 saves.
const NESTED: &str = "language_model.model";

/// Prefixes of the text part in transformers' layout; the first is what transformers 5 saves.
fn prefixes(family: Family) -> &'static [&'static str] {
    match family {
        Family::Qwen3Vl => &["model.language_model"],
        Family::Gemma3 => &[NESTED, "model.language_model", "model"],
        Family::Gemma3Text => &["model", NESTED, "model.language_model"],
        _ => &["model"],
    }
}

/// Whether a tensor belongs to a vision tower that is not used.
pub(crate) fn is_unused_vision(family: Family, name: &str) -> bool {
    let parts = ["vision_tower.", "multi_modal_projector."];
    let name = name.strip_prefix("model.").unwrap_or(name);
    matches!(family, Family::Gemma3 | Family::Gemma3Text) && parts.iter().any(|part| name.starts_with(part))
}

/// Every tensor of the text part of an unquantised transformers checkpoint with its shape, in the order of computation.
///
/// Does not include the vision tower and the layers for multi-token prediction.
#[must_use]
pub fn expected_tensors(config: &DecoderConfig) -> Vec<(String, Vec<i64>)> {
    let names = Names::new(Layout::Transformers, config, |_| false);
    let hidden = config.hidden;
    let mut list = List(Vec::new());
    list.add(names.embedding(), &[config.vocab, hidden]);
    for (index, feed_forward) in config.layers.iter().enumerate() {
        let layer = names.layer(index);
        let name = |part| format!("{layer}.{}", names.part(part));
        list.add(name(Part::InputNorm), &[hidden]);
        attention(&mut list, config, names, &layer);
        if config.block.output_norms {
            list.add(name(Part::AttentionOutputNorm), &[hidden]);
        }
        list.add(name(Part::MlpNorm), &[hidden]);
        match feed_forward {
            FeedForward::Dense { intermediate, bias } => {
                list.gated(&format!("{layer}.mlp"), hidden, *intermediate, *bias);
            }
            FeedForward::Sparse(sparse) => {
                list.add(name(Part::Router), &[sparse.experts, hidden]);
                if matches!(sparse.routing, Routing::Sigmoid { .. }) {
                    list.0.push((format!("{layer}.mlp.gate.{CORRECTION_BIAS}"), vec![sparse.experts]));
                }
                for expert in 0..sparse.experts {
                    list.gated(
                        &format!("{}.experts.{expert}", name(Part::Experts)),
                        hidden,
                        sparse.intermediate,
                        false,
                    );
                }
                if let Some(shared) = sparse.shared_intermediate {
                    list.gated(&format!("{layer}.{SHARED_EXPERTS}"), hidden, shared, false);
                }
            }
        }
        if config.block.output_norms {
            list.add(name(Part::MlpOutputNorm), &[hidden]);
        }
    }
    list.add(names.final_norm(), &[hidden]);
    if !config.tied_head {
        list.add(names.head(), &[config.vocab, hidden]);
    }
    list.0
}

/// Bias for the router's selection, relative to the router's name.
pub(crate) const CORRECTION_BIAS: &str = "e_score_correction_bias";
/// The shared expert, relative to the layer's name.
pub(crate) const SHARED_EXPERTS: &str = "mlp.shared_experts";

fn attention(list: &mut List, config: &DecoderConfig, names: Names, layer: &str) {
    let hidden = config.hidden;
    let name = |part| format!("{layer}.{}", names.part(part));
    match &config.attention {
        Attention::Grouped(grouped) => {
            let (queries, values) = (grouped.heads * grouped.head_dim, grouped.kv_heads * grouped.head_dim);
            let parts = [(Part::Query, queries), (Part::Key, values), (Part::Value, values)];
            for (part, width) in parts {
                list.linear(&name(part), width, hidden, grouped.qkv_bias);
            }
            list.linear(&name(Part::Output), hidden, queries, grouped.output_bias);
            if grouped.qk_norm.is_some() {
                list.add(name(Part::QueryNorm), &[grouped.head_dim]);
                list.add(name(Part::KeyNorm), &[grouped.head_dim]);
            }
        }
        Attention::Latent(latent) => {
            let name = |part: &str| format!("{layer}.self_attn.{part}");
            let queries = latent.heads * latent.query_dim();
            match latent.query {
                QueryProjection::Direct => list.linear(&name("q_proj"), queries, hidden, false),
                QueryProjection::LowRank(rank) => {
                    list.linear(&name("q_a_proj"), rank, hidden, latent.bias);
                    list.add(name("q_a_layernorm"), &[rank]);
                    list.linear(&name("q_b_proj"), queries, rank, false);
                }
            }
            list.linear(&name("kv_a_proj_with_mqa"), latent.latent + latent.rope_dim, hidden, latent.bias);
            list.add(name("kv_a_layernorm"), &[latent.latent]);
            let expanded = latent.heads * (latent.nope_dim + latent.value_dim);
            list.linear(&name("kv_b_proj"), expanded, latent.latent, false);
            list.linear(&name("o_proj"), hidden, latent.heads * latent.value_dim, latent.bias);
        }
    }
}

struct List(Vec<(String, Vec<i64>)>);

impl List {
    fn add(&mut self, name: impl std::fmt::Display, shape: &[i64]) {
        self.0.push((format!("{name}.weight"), shape.to_vec()));
    }

    fn linear(&mut self, name: &str, outputs: i64, inputs: i64, bias: bool) {
        self.add(name, &[outputs, inputs]);
        if bias {
            self.0.push((format!("{name}.bias"), vec![outputs]));
        }
    }

    fn gated(&mut self, name: &str, hidden: i64, intermediate: i64, bias: bool) {
        self.linear(&format!("{name}.gate_proj"), intermediate, hidden, bias);
        self.linear(&format!("{name}.up_proj"), intermediate, hidden, bias);
        self.linear(&format!("{name}.down_proj"), hidden, intermediate, bias);
    }
}
