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
    MlpNorm,
    Gate,
    Up,
    Down,
    Router,
    Experts,
}

impl Layout {
    /// The token embedding.
    pub(crate) fn embedding(self, family: Family) -> String {
        match self {
            Self::Transformers => format!("{}.embed_tokens", text(family)),
            Self::Gguf => "token_embd".into(),
        }
    }

    /// The norm before the head.
    pub(crate) fn final_norm(self, family: Family) -> String {
        match self {
            Self::Transformers => format!("{}.norm", text(family)),
            Self::Gguf => "output_norm".into(),
        }
    }

    /// The output layer, if it is not tied to the embedding.
    pub(crate) fn head(self) -> &'static str {
        match self {
            Self::Transformers => "lm_head",
            Self::Gguf => "output",
        }
    }

    /// Layer `index`.
    pub(crate) fn layer(self, family: Family, index: usize) -> String {
        match self {
            Self::Transformers => format!("{}.layers.{index}", text(family)),
            Self::Gguf => format!("blk.{index}"),
        }
    }

    /// A part of a layer, relative to the layer's name.
    pub(crate) fn part(self, part: Part) -> &'static str {
        match self {
            Self::Transformers => match part {
                Part::InputNorm => "input_layernorm",
                Part::Query => "self_attn.q_proj",
                Part::Key => "self_attn.k_proj",
                Part::Value => "self_attn.v_proj",
                Part::Output => "self_attn.o_proj",
                Part::QueryNorm => "self_attn.q_norm",
                Part::KeyNorm => "self_attn.k_norm",
                Part::MlpNorm => "post_attention_layernorm",
                Part::Gate => "mlp.gate_proj",
                Part::Up => "mlp.up_proj",
                Part::Down => "mlp.down_proj",
                Part::Router => "mlp.gate",
                Part::Experts => "mlp",
            },
            Self::Gguf => match part {
                Part::InputNorm => "attn_norm",
                Part::Query => "attn_q",
                Part::Key => "attn_k",
                Part::Value => "attn_v",
                Part::Output => "attn_output",
                Part::QueryNorm => "attn_q_norm",
                Part::KeyNorm => "attn_k_norm",
                Part::MlpNorm => "ffn_norm",
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

/// Prefix of the text part in a transformers checkpoint.
fn text(family: Family) -> &'static str {
    match family {
        Family::Qwen3Vl => "model.language_model",
        _ => "model",
    }
}

/// Every tensor of the text part of an unquantised transformers checkpoint with its shape, in the order of computation.
///
/// Does not include the vision tower and the layers for multi-token prediction.
#[must_use]
pub fn expected_tensors(config: &DecoderConfig) -> Vec<(String, Vec<i64>)> {
    let layout = Layout::Transformers;
    let hidden = config.hidden;
    let mut list = List(Vec::new());
    list.add(layout.embedding(config.family), &[config.vocab, hidden]);
    for (index, feed_forward) in config.layers.iter().enumerate() {
        let layer = layout.layer(config.family, index);
        let name = |part| format!("{layer}.{}", layout.part(part));
        list.add(name(Part::InputNorm), &[hidden]);
        attention(&mut list, config, &layer);
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
    }
    list.add(layout.final_norm(config.family), &[hidden]);
    if !config.tied_head {
        list.add(layout.head(), &[config.vocab, hidden]);
    }
    list.0
}

/// Bias for the router's selection, relative to the router's name.
pub(crate) const CORRECTION_BIAS: &str = "e_score_correction_bias";
/// The shared expert, relative to the layer's name.
pub(crate) const SHARED_EXPERTS: &str = "mlp.shared_experts";

fn attention(list: &mut List, config: &DecoderConfig, layer: &str) {
    let hidden = config.hidden;
    match &config.attention {
        Attention::Grouped(grouped) => {
            let (queries, values) = (grouped.heads * grouped.head_dim, grouped.kv_heads * grouped.head_dim);
            let parts = [(Part::Query, queries), (Part::Key, values), (Part::Value, values)];
            for (part, width) in parts {
                list.linear(&name(layer, part), width, hidden, grouped.qkv_bias);
            }
            list.linear(&name(layer, Part::Output), hidden, queries, grouped.output_bias);
            if grouped.qk_norm.is_some() {
                list.add(name(layer, Part::QueryNorm), &[grouped.head_dim]);
                list.add(name(layer, Part::KeyNorm), &[grouped.head_dim]);
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

fn name(layer: &str, part: Part) -> String {
    format!("{layer}.{}", Layout::Transformers.part(part))
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
