//! Scaled dot-product attention.

use tch::Tensor;

/// `softmax(q kᵀ · scale + mask) v` by libtorch's fused kernel.
///
/// `query`: `[batch, heads, length, head]`, `key` and `value`: `[batch, heads, keys, head]` (any strides), `mask`: f32
/// or the query's type, broadcast to `[batch, heads, length, keys]`; `scale` is 1/√head when absent. → as `query`.
pub fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
    scale: Option<f64>,
) -> Tensor {
    // Only the CPU's kernels mix types.
    let mask = mask
        .map(|mask| if mask.device().is_cuda() { mask.to_kind(query.kind()) } else { mask.shallow_clone() });
    Tensor::scaled_dot_product_attention(query, key, value, mask, 0.0, false, scale, false)
}
