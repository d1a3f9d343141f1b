//! Rotary position embedding (Su et al. 2021) with the preceding normalisation of queries and keys.

use half::bf16;
use tch::{Device, Kind, Tensor};

use crate::host::{self, HostFloat};
use crate::norm::{inverse_rms, widen};
use crate::{RmsNorm, RotaryStyle, parallel, simd};

/// Rotation angles of each position.
pub struct Rope {
    /// `[length, head / 2]` f32, or `[length, heads · head / 2]` when each head has angles of its own.
    cos: Tensor,
    sin: Tensor,
    style: RotaryStyle,
    /// Number of heads with angles of their own.
    own: Option<i64>,
}

impl Rope {
    /// Precomputes the rotations of `angles` `[length, head / 2]` in f64 or f32, the same for all heads; neighbouring
    /// elements `2i` and `2i + 1` of a head are rotated together.
    pub fn new(angles: &Tensor) -> Self {
        Self {
            cos: angles.cos().to_kind(Kind::Float),
            sin: angles.sin().to_kind(Kind::Float),
            style: RotaryStyle::Pairs,
            own: None,
        }
    }

    /// Precomputes the rotations of `angles` `[length, heads · head / 2]` in f64 or f32: each of `heads` heads has
    /// angles of its own, in this order.
    pub fn per_head(angles: &Tensor, heads: i64, style: RotaryStyle) -> Self {
        Self { style, own: Some(heads), ..Self::new(angles) }
    }

    /// Number of positions.
    pub fn length(&self) -> i64 {
        self.cos.size()[0]
    }

    /// `[batch, length, width]` f32 with `heads` heads, if they have no angles of their own → the same shape, rotated.
    fn rotate(&self, input: &Tensor, heads: i64) -> Tensor {
        let heads = self.own.unwrap_or(heads);
        let angles = |table: &Tensor| match self.own {
            Some(heads) => table.unflatten(-1, [heads, -1]),
            None => table.unsqueeze(1),
        };
        let (cos, sin) = (angles(&self.cos), angles(&self.sin));
        let input = input.unflatten(-1, [heads, -1]);
        let (parts, at) = match self.style {
            RotaryStyle::Pairs => (input.unflatten(-1, [-1, 2]), -1),
            RotaryStyle::Halves => (input.unflatten(-1, [2, -1]), -2),
        };
        let (first, second) = (parts.select(at, 0), parts.select(at, 1));
        let rotated = [&first * &cos - &second * &sin, &first * &sin + &second * &cos];
        Tensor::stack(&rotated, at).flatten(-3, -1)
    }
}

/// Normalises part `index` of each row over all heads together and, with `rope`, rotates each head. Works in place
/// and computes in f32.
///
/// `rows`: `[batch, length, parts · width]` contiguous, where `width` is the width of the norm; for example queries,
/// keys and values of one fused projection. `heads` divides `width`; a `rope` with angles of its own for each head
/// has its own number of heads.
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
                value = rope.rotate(&value, heads);
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
    let heads = size(rope.and_then(|rope| rope.own).unwrap_or(heads)).max(1);
    let head = width / heads;
    let angles = rope.map(|rope| {
        let each = if rope.own.is_some() { width / 2 } else { head / 2 };
        (host::slice::<f32>(&rope.cos), host::slice::<f32>(&rope.sin), each, rope.style)
    });
    assert!(
        offset + width <= row_width && head.is_multiple_of(2),
        "part {index} of width {width} in rows of {row_width}"
    );
    if let Some((cos, _, each, _)) = angles {
        assert!(cos.len() == length * each, "{} angles for {length} rows of {each}", cos.len());
    }
    let eps = norm.eps() as f32;
    parallel::rows(host::slice_mut::<T>(rows), row_width, |first, rows| {
        let mut wide = vec![0f32; width];
        for (row, values) in rows.chunks_mut(row_width).enumerate() {
            let values = &mut values[offset..offset + width];
            simd::vectorized(|| {
                widen(values, &mut wide);
                let factor = inverse_rms(&wide, eps);
                wide.iter_mut().zip(weight).for_each(|(wide, weight)| *wide = *wide * factor * weight);
            });
            let position = (first + row) % length;
            match angles {
                Some((cos, sin, each, style)) => {
                    let at = position * each..(position + 1) * each;
                    let (cos, sin) = (&cos[at.clone()], &sin[at]);
                    simd::vectorized(|| match style {
                        RotaryStyle::Pairs => rotate_pairs(&wide, cos, sin, values),
                        RotaryStyle::Halves => rotate_halves(&wide, cos, sin, head, values),
                    });
                }
                None => simd::vectorized(|| {
                    values.iter_mut().zip(&wide).for_each(|(value, &wide)| *value = T::narrow(wide));
                }),
            }
        }
    });
}

/// Rotates each pair by the angle of its index, in pieces of as many pairs as there are angles.
#[inline(always)]
fn rotate_pairs<T: HostFloat>(wide: &[f32], cos: &[f32], sin: &[f32], output: &mut [T]) {
    let piece = cos.len() * 2;
    for (output, wide) in output.chunks_exact_mut(piece).zip(wide.chunks_exact(piece)) {
        let pairs = output.chunks_exact_mut(2).zip(wide.chunks_exact(2));
        for ((output, pair), (&cos, &sin)) in pairs.zip(cos.iter().zip(sin)) {
            output[0] = T::narrow(pair[0] * cos - pair[1] * sin);
            output[1] = T::narrow(pair[0] * sin + pair[1] * cos);
        }
    }
}

/// Rotates element `i` of each head with element `i + head / 2`. `cos` and `sin` have `head / 2` values, or as many
/// for each head.
#[inline(always)]
fn rotate_halves<T: HostFloat>(wide: &[f32], cos: &[f32], sin: &[f32], head: usize, output: &mut [T]) {
    let half = head / 2;
    let heads = output.chunks_exact_mut(head).zip(wide.chunks_exact(head));
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half)).cycle();
    for ((output, wide), (cos, sin)) in heads.zip(angles) {
        let (first, second) = output.split_at_mut(half);
        let (a, b) = wide.split_at(half);
        for at in 0..half {
            first[at] = T::narrow(a[at] * cos[at] - b[at] * sin[at]);
            second[at] = T::narrow(a[at] * sin[at] + b[at] * cos[at]);
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
            value = rope.rotate(&value, heads);
        }
        rows.narrow(-1, index * width, width).copy_(&value);
        rows
    }

    /// A rotation of the pair (`a`, `b`) as a product of complex numbers, head by head and element by element.
    #[rstest]
    #[case(RotaryStyle::Pairs)]
    #[case(RotaryStyle::Halves)]
    fn each_head_has_its_own_angles(#[case] style: RotaryStyle) {
        tch::manual_seed(6);
        let (heads, head, length) = (3usize, 8usize, 4usize);
        let angles = Tensor::rand([4, 12], (Kind::Double, Device::Cpu)) * 7;
        let rope = Rope::per_head(&angles, 3, style);
        let input = Tensor::randn([2, 4, 24], (Kind::Float, Device::Cpu));
        let output = rope.rotate(&input, 1);
        for batch in 0..2 {
            for (position, at) in (0..length).flat_map(|position| (0..heads).map(move |at| (position, at))) {
                for index in 0..head / 2 {
                    let (a, b) = match style {
                        RotaryStyle::Pairs => (2 * index, 2 * index + 1),
                        RotaryStyle::Halves => (index, index + head / 2),
                    };
                    let value = |from: &Tensor, element: usize| {
                        from.double_value(&[batch, position as i64, (at * head + element) as i64])
                    };
                    let angle = angles.double_value(&[position as i64, (at * head / 2 + index) as i64]);
                    let (x, y) = (value(&input, a), value(&input, b));
                    assert!((value(&output, a) - (x * angle.cos() - y * angle.sin())).abs() < 1e-5);
                    assert!((value(&output, b) - (x * angle.sin() + y * angle.cos())).abs() < 1e-5);
                }
            }
        }
    }

    #[rstest]
    #[case(Kind::Float, 1e-6)]
    #[case(Kind::BFloat16, 4e-3)]
    #[case(Kind::Half, 1e-3)]
    fn agrees_with_libtorch_and_leaves_the_other_parts(
        #[case] kind: Kind,
        #[case] bound: f64,
        #[values(None, Some((RotaryStyle::Pairs, false)), Some((RotaryStyle::Pairs, true)), Some((RotaryStyle::Halves, true)))]
        rotated: Option<(RotaryStyle, bool)>,
        #[values(0, 1)] index: i64,
    ) {
        tch::manual_seed(5);
        let (heads, head, length) = (6, 20, 400);
        let norm = RmsNorm::new(Tensor::rand([heads * head], (Kind::Float, Device::Cpu)) + 0.5, 1e-6);
        let angles = |width| Tensor::rand([length, width], (Kind::Double, Device::Cpu)) * 9;
        let rope = rotated.map(|(style, own)| match own {
            true => Rope::per_head(&angles(heads * head / 2), heads, style),
            false => Rope::new(&angles(head / 2)),
        });
        let rows = Tensor::randn([2, length, 3 * heads * head], (Kind::Float, Device::Cpu)).to_kind(kind);
        let expected = expected(&rows, index, heads, &norm, rope.as_ref());
        norm_rotate(&rows, index, heads, &norm, rope.as_ref());
        let error = (rows.to_kind(Kind::Float) - &expected).norm() / expected.norm();
        assert!(f64::try_from(&error).expect("a number") < bound, "{error:?}");
    }
}
