//! Rotary position embedding (Su et al. 2021) with the preceding normalisation of queries and keys.

use half::bf16;
use tch::{Device, Kind, Tensor};

use crate::host::{self, HostFloat};
use crate::{RmsNorm, parallel, simd};

/// Rotation angles of each position: neighbouring elements `2i` and `2i + 1` of a head are rotated together.
pub struct Rope {
    /// `[length, head / 2]` f32.
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Precomputes the rotations of `angles` `[length, head / 2]` in f64 or f32.
    pub fn new(angles: &Tensor) -> Self {
        Self { cos: angles.cos().to_kind(Kind::Float), sin: angles.sin().to_kind(Kind::Float) }
    }

    /// Number of positions.
    pub fn length(&self) -> i64 {
        self.cos.size()[0]
    }

    /// `[batch, length, heads, head]` f32 → the same shape, rotated.
    fn rotate(&self, input: &Tensor) -> Tensor {
        let pairs = input.unflatten(-1, [-1, 2]);
        let (even, odd) = (pairs.select(-1, 0), pairs.select(-1, 1));
        let (cos, sin) = (self.cos.unsqueeze(1), self.sin.unsqueeze(1));
        let rotated = [&even * &cos - &odd * &sin, &even * &sin + &odd * &cos];
        Tensor::stack(&rotated, -1).flatten(-2, -1)
    }
}

/// Normalises part `index` of each row over all heads together and, with `rope`, rotates each head. Works in place
/// and computes in f32.
///
/// `rows`: `[batch, length, parts · width]` contiguous, where `width` is the width of the norm; for example queries,
/// keys and values of one fused projection. `heads` divides `width`.
pub fn norm_rotate(rows: &Tensor, index: i64, heads: i64, norm: &RmsNorm, rope: Option<&Rope>) {
    let ours = rows.device() == Device::Cpu && rows.is_contiguous() && norm.weight().is_contiguous();
    match rows.kind() {
        Kind::BFloat16 if ours => in_place::<bf16>(rows, index, heads, norm, rope),
        Kind::Float if ours => in_place::<f32>(rows, index, heads, norm, rope),
        _ => {
            let width = norm.weight().size()[0];
            let mut part = rows.narrow(-1, index * width, width);
            let mut value = norm.forward(&part.to_kind(Kind::Float));
            if let Some(rope) = rope {
                value = rope.rotate(&value.unflatten(-1, [heads, -1])).flatten(-2, -1);
            }
            part.copy_(&value);
        }
    }
}

fn in_place<T: HostFloat>(rows: &Tensor, index: i64, heads: i64, norm: &RmsNorm, rope: Option<&Rope>) {
    let size = |value: i64| usize::try_from(value).unwrap_or(0);
    let weight = host::slice::<f32>(norm.weight());
    let width = weight.len();
    let (length, row_width) = (size(rows.size()[1]), size(rows.size()[2]));
    let offset = size(index) * width;
    let head = width / size(heads).max(1);
    let angles = rope.map(|rope| (host::slice::<f32>(&rope.cos), host::slice::<f32>(&rope.sin)));
    assert!(
        offset + width <= row_width && head.is_multiple_of(2),
        "part {index} of width {width} in rows of {row_width}"
    );
    if let Some((cos, _)) = angles {
        assert!(
            cos.len() == length * head / 2,
            "angles for {} positions, {length} rows",
            cos.len() * 2 / head
        );
    }
    let eps = norm.eps() as f32;
    parallel::rows(host::slice_mut::<T>(rows), row_width, |first, rows| {
        let mut wide = vec![0f32; width];
        for (row, values) in rows.chunks_mut(row_width).enumerate() {
            let values = &mut values[offset..offset + width];
            simd::vectorized(|| normalize(values, weight, eps, &mut wide));
            let position = (first + row) % length * (head / 2);
            match angles {
                Some((cos, sin)) => {
                    let (cos, sin) =
                        (&cos[position..position + head / 2], &sin[position..position + head / 2]);
                    simd::vectorized(|| rotate(&wide, cos, sin, values));
                }
                None => simd::vectorized(|| {
                    values.iter_mut().zip(&wide).for_each(|(value, &wide)| *value = T::narrow(wide));
                }),
            }
        }
    });
}

/// `wide = values / √(mean(values²) + eps) · weight`.
#[inline(always)]
fn normalize<T: HostFloat>(values: &[T], weight: &[f32], eps: f32, wide: &mut [f32]) {
    const LANES: usize = 16;
    for (wide, value) in wide.iter_mut().zip(values) {
        *wide = value.widen();
    }
    // Separate sums, so that the additions do not depend on one another.
    let mut sums = [0f32; LANES];
    let pieces = wide.chunks_exact(LANES);
    let rest: f32 = pieces.remainder().iter().map(|value| value * value).sum();
    for piece in pieces {
        for (sum, value) in sums.iter_mut().zip(piece) {
            *sum += value * value;
        }
    }
    let mean = (sums.iter().sum::<f32>() + rest) / wide.len() as f32;
    let factor = 1.0 / (mean + eps).sqrt();
    for (wide, weight) in wide.iter_mut().zip(weight) {
        *wide = *wide * factor * weight;
    }
}

/// Rotates each pair of each head by the angle of its index in the head.
#[inline(always)]
fn rotate<T: HostFloat>(wide: &[f32], cos: &[f32], sin: &[f32], output: &mut [T]) {
    let head = cos.len() * 2;
    for (output, wide) in output.chunks_exact_mut(head).zip(wide.chunks_exact(head)) {
        let pairs = output.chunks_exact_mut(2).zip(wide.chunks_exact(2));
        for ((output, pair), (&cos, &sin)) in pairs.zip(cos.iter().zip(sin)) {
            output[0] = T::narrow(pair[0] * cos - pair[1] * sin);
            output[1] = T::narrow(pair[0] * sin + pair[1] * cos);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// The same computation with libtorch's operators.
    fn expected(rows: &Tensor, index: i64, heads: i64, norm: &RmsNorm, rope: Option<&Rope>) -> Tensor {
        let rows = rows.to_kind(Kind::Float);
        let width = norm.weight().size()[0];
        let mut value = norm.forward(&rows.narrow(-1, index * width, width));
        if let Some(rope) = rope {
            value = rope.rotate(&value.unflatten(-1, [heads, -1])).flatten(-2, -1);
        }
        rows.narrow(-1, index * width, width).copy_(&value);
        rows
    }

    #[rstest]
    #[case(Kind::Float, 1e-6)]
    #[case(Kind::BFloat16, 4e-3)]
    #[case(Kind::Half, 1e-3)]
    fn agrees_with_libtorch_and_leaves_the_other_parts(
        #[case] kind: Kind,
        #[case] bound: f64,
        #[values(true, false)] rotated: bool,
        #[values(0, 1)] index: i64,
    ) {
        tch::manual_seed(5);
        let (heads, head, length) = (6, 20, 400);
        let norm = RmsNorm::new(Tensor::rand([heads * head], (Kind::Float, Device::Cpu)) + 0.5, 1e-6);
        let rope =
            rotated.then(|| Rope::new(&(Tensor::rand([length, head / 2], (Kind::Double, Device::Cpu)) * 9)));
        let rows = Tensor::randn([2, length, 3 * heads * head], (Kind::Float, Device::Cpu)).to_kind(kind);
        let expected = expected(&rows, index, heads, &norm, rope.as_ref());
        norm_rotate(&rows, index, heads, &norm, rope.as_ref());
        let error = (rows.to_kind(Kind::Float) - &expected).norm() / expected.norm();
        assert!(f64::try_from(&error).expect("a number") < bound, "{error:?}");
    }
}
