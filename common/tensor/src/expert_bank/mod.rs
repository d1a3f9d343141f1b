//! The experts of a mixture-of-experts layer.

use std::cell::OnceCell;

use tch::{Kind, Tensor};

use crate::{Linear, TensorError, Weights, swiglu};

/// Sizes of the experts of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertShape {
    /// Number of experts.
    pub experts: i64,
    /// Width of a token's hidden state.
    pub hidden: i64,
    /// Intermediate width of an expert.
    pub intermediate: i64,
}

/// Gated feed-forward experts, each `down(silu(gate x) · up x)`, in any weight format. Only experts that some token
/// is routed to are computed.
pub struct ExpertBank {
    experts: Vec<Expert>,
}

struct Expert {
    /// Gate and up concatenated: `[hidden]` → `[2 · intermediate]`.
    gate_up: Linear,
    /// `[intermediate]` → `[hidden]`.
    down: Linear,
}

impl ExpertBank {
    /// Loads the experts below `weights`, from whichever of the published layouts the checkpoint has:
    ///
    /// - one tensor for each expert and projection, `experts.{i}.{gate,up,down}_proj`, in every format of a linear
    ///   layer;
    /// - stacked, `experts.gate_up_proj` `[experts, 2 · intermediate, hidden]` and `experts.down_proj` `[experts,
    ///   hidden, intermediate]`, or both with the last two dimensions exchanged, which the shapes decide;
    /// - GGUF's `ffn_{gate,up,down}_exps` `[experts, outputs, inputs]`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn load(weights: &Weights, shape: ExpertShape) -> Result<Self, TensorError> {
        let experts = if weights.contains("experts.gate_up_proj") {
            stacked(weights, shape)?
        } else if weights.contains("ffn_gate_exps.weight") {
            gguf(weights, shape)?
        } else {
            one_by_one(weights, shape)?
        };
        Ok(Self { experts })
    }

    /// Sends each row of `hidden` `[tokens, hidden]` through the experts `ids` `[tokens, k]` (integers). The results
    /// are multiplied by `weights` `[tokens, k]` and summed in f32 in the order of the experts' numbers → `[tokens,
    /// hidden]` in the type of `hidden`. The other tokens of a call change only the shape of the matrix products.
    pub fn forward(&self, hidden: &Tensor, ids: &Tensor, weights: &Tensor) -> Tensor {
        let chosen = ExpertAssignment::new(ids);
        let output = hidden.zeros_like().to_kind(Kind::Float);
        let weights = weights.to_kind(Kind::Float).reshape([-1, 1]);
        for (expert, places) in chosen.by_expert() {
            let places = Tensor::from_slice(places).to_device(hidden.device());
            let tokens = places.divide_scalar_mode(chosen.top_k, "floor");
            let expert = &self.experts[expert];
            let rows = hidden.index_select(0, &tokens);
            let result = expert.down.forward(&swiglu(&expert.gate_up.forward(&rows)));
            let weighed = result.to_kind(Kind::Float) * weights.index_select(0, &places);
            let _output = output.shallow_clone().index_add_(0, &tokens, &weighed);
        }
        output.to_kind(hidden.kind())
    }

    /// Number of experts.
    pub fn len(&self) -> usize {
        self.experts.len()
    }

    /// Whether there are no experts.
    pub fn is_empty(&self) -> bool {
        self.experts.is_empty()
    }

    /// Bytes of all experts in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.experts.iter().map(|expert| expert.gate_up.resident_bytes() + expert.down.resident_bytes()).sum()
    }
}

fn one_by_one(weights: &Weights, shape: ExpertShape) -> Result<Vec<Expert>, TensorError> {
    let ExpertShape { experts, hidden, intermediate } = shape;
    let load = |index| {
        let weights = weights.at("experts").at(index);
        let gate_up = [("gate_proj", intermediate), ("up_proj", intermediate)];
        Ok(Expert {
            gate_up: weights.fused_linear(&gate_up, hidden, false)?,
            down: weights.linear("down_proj", intermediate, hidden, false)?,
        })
    };
    (0..experts).map(load).collect()
}

fn stacked(weights: &Weights, shape: ExpertShape) -> Result<Vec<Expert>, TensorError> {
    let ExpertShape { experts, hidden, intermediate } = shape;
    let (gate_up, down) = ([experts, 2 * intermediate, hidden], [experts, hidden, intermediate]);
    let exchanged = |[count, rows, width]: [i64; 3]| [count, width, rows];
    // Both tensors are stored in the same order. One of them can be square and decide nothing, but never both.
    let stacks = [("experts.gate_up_proj", gate_up), ("experts.down_proj", down)];
    let transposed = stacks
        .iter()
        .any(|(name, shape)| shape[1] != shape[2] && weights.has_shape(name, &exchanged(*shape)));
    let gate_up = Stack::new(weights, stacks[0].0, gate_up, transposed);
    let down = Stack::new(weights, stacks[1].0, down, transposed);
    (0..experts)
        .map(|index| Ok(Expert { gate_up: gate_up.linear(index)?, down: down.linear(index)? }))
        .collect()
}

fn gguf(weights: &Weights, shape: ExpertShape) -> Result<Vec<Expert>, TensorError> {
    let ExpertShape { experts, hidden, intermediate } = shape;
    let (wide, narrow) = ([experts, intermediate, hidden], [experts, hidden, intermediate]);
    for name in ["ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"] {
        weights.mark_used(name);
    }
    let load = |index| {
        let gate_up =
            vec![weights.slice("ffn_gate_exps", index, wide)?, weights.slice("ffn_up_exps", index, wide)?];
        let down = vec![weights.slice("ffn_down_exps", index, narrow)?];
        Ok(Expert {
            gate_up: weights.linear_from_parts(gate_up, None)?,
            down: weights.linear_from_parts(down, None)?,
        })
    };
    (0..experts).map(load).collect()
}

/// The weights of all experts in one tensor, read when one of them is needed.
struct Stack<'a> {
    weights: &'a Weights,
    name: &'a str,
    shape: [i64; 3],
    /// Whether the weights are stored as `[experts, inputs, outputs]`.
    transposed: bool,
    tensor: OnceCell<Tensor>,
}

impl<'a> Stack<'a> {
    fn new(weights: &'a Weights, name: &'a str, shape: [i64; 3], transposed: bool) -> Self {
        weights.mark_used(name);
        Self { weights, name, shape, transposed, tensor: OnceCell::new() }
    }

    fn linear(&self, index: i64) -> Result<Linear, TensorError> {
        let [_, outputs, inputs] = self.shape;
        self.weights.linear_from(&format!("{}.{index}", self.name), [outputs, inputs], || {
            let stack = match self.tensor.get() {
                Some(stack) => stack,
                None => {
                    let stack = self.weights.stacked(self.name, self.shape, self.transposed)?;
                    self.tensor.get_or_init(|| stack)
                }
            };
            Ok(stack.f_get(index)?.f_contiguous()?)
        })
    }
}

/// The routing of a step: positions in `ids`, sorted by expert.
struct ExpertAssignment {
    /// Expert and position in the flattened `ids`.
    pairs: Vec<(usize, i64)>,
    places: Vec<i64>,
    top_k: i64,
}

impl ExpertAssignment {
    fn new(ids: &Tensor) -> Self {
        let top_k = ids.size().last().copied().unwrap_or(1).max(1);
        let flat = ids.to_device(tch::Device::Cpu).to_kind(Kind::Int64).reshape([-1]);
        let mut pairs: Vec<(usize, i64)> = flat.iter::<i64>().map_or_else(
            |_| Vec::new(),
            |ids| {
                ids.zip(0..).map(|(id, place)| (usize::try_from(id).unwrap_or(usize::MAX), place)).collect()
            },
        );
        pairs.sort_unstable();
        let places = pairs.iter().map(|&(_, place)| place).collect();
        Self { pairs, places, top_k }
    }

    /// Each expert that has tokens, in order, with the positions in `ids`.
    fn by_expert(&self) -> impl Iterator<Item = (usize, &[i64])> {
        let mut first = 0;
        self.pairs.chunk_by(|left, right| left.0 == right.0).map(move |group| {
            let places = &self.places[first..first + group.len()];
            first += group.len();
            (group[0].0, places)
        })
    }
}

#[cfg(test)]
mod tests;
