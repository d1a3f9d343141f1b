//! The gated activation of the feed-forward network (Shazeer 2020, "GLU variants improve transformer").

use tch::Tensor;

/// `silu(gate) · up`, in f32 inside.
///
/// `gate_up`: `[…, 2·n]` f32, bf16 or f16, gate in the first half → `[…, n]`.
pub fn swiglu(gate_up: &Tensor) -> Tensor {
    by_libtorch(gate_up)
}

fn by_libtorch(gate_up: &Tensor) -> Tensor {
    let parts = gate_up.chunk(2, -1);
    parts[0].silu() * &parts[1]
}
