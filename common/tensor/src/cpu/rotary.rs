//! Rotary position embedding (Su et al. 2021) of queries and keys in place, after an optional normalisation of each
//! head.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use super::lanes::{Kernel, LaneFloat, Lanes, Level, dispatch};
use super::pool::{self, SharedMut};
use crate::host;

/// Smallest number of elements that are divided among threads.
const WORTH_A_THREAD: usize = 1 << 15;
/// Largest head width of the CPU kernel.
const MOST: usize = 512;

/// Which elements of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryStyle {
    /// Element `i` with element `i + n/2` of the `n` that are rotated (GPT-NeoX, Llama in transformers, Qwen, GLM-4).
    Halves,
    /// Element `2i` with element `2i + 1` (the paper; GGUF's llama, DeepSeek, GLM-4 lite).
    Pairs,
}

/// Cosines and sines of the rotations of each row of a step; computed once for each step and used in every layer.
pub struct RotaryAngles {
    /// `[rows, half]` f32 on the host.
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
    /// The same as tensors, if the model is not on the CPU.
    device: Option<(Tensor, Tensor)>,
}

impl RotaryAngles {
    /// Angle `position · inverse_frequencies[i]` (in f32, like the reference implementations); cosines and sines are
    /// multiplied by `factor` (1 except for some long-context scalings). Rotates the first `2 ·
    /// inverse_frequencies.len()` elements of each head.
    pub fn at(
        positions: impl IntoIterator<Item = usize>,
        inverse_frequencies: &[f32],
        factor: f64,
        device: Device,
    ) -> Self {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in positions {
            for frequency in inverse_frequencies {
                let (s, c) = f64::from(position as f32 * frequency).sin_cos();
                cos.push((c * factor) as f32);
                sin.push((s * factor) as f32);
            }
        }
        Self::new(cos, sin, inverse_frequencies.len(), device)
    }

    /// From precomputed rows `[rows, half]` (multi-axis rotary positions compute their own).
    pub fn new(cos: Vec<f32>, sin: Vec<f32>, half: usize, device: Device) -> Self {
        assert!(
            cos.len() == sin.len() && (half == 0 || cos.len().is_multiple_of(half)),
            "whole rows of {half}"
        );
        let tensor = |values: &[f32]| Tensor::from_slice(values).view([-1, 1, half as i64]).to_device(device);
        let device = (device != Device::Cpu).then(|| (tensor(&cos), tensor(&sin)));
        Self { cos, sin, half, device }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }
}

/// Normalises (with `norm`: weight `[head_dim]` and eps, as [`crate::rms_norm`]) and rotates `heads` heads of each
/// row in place: columns `first .. first + heads · head_dim` of `rows` `[T, width]`, contiguous, f32, bf16 or f16.
///
/// The first `2 · half` elements of a head are rotated, in f32; the others are unchanged. `angles` has `T` rows.
pub fn rotate_heads(
    rows: &mut Tensor,
    first: usize,
    heads: usize,
    head_dim: usize,
    norm: Option<(&Tensor, f64)>,
    angles: &RotaryAngles,
    style: RotaryStyle,
) {
    let part = Part { first, heads, head_dim, style };
    let ours = rows.device() == Device::Cpu && rows.is_contiguous() && rows.dim() == 2 && head_dim <= MOST;
    match rows.kind() {
        Kind::BFloat16 if ours => on_host::<bf16>(Level::detect(), rows, part, norm, angles),
        Kind::Half if ours => on_host::<f16>(Level::detect(), rows, part, norm, angles),
        Kind::Float if ours => on_host::<f32>(Level::detect(), rows, part, norm, angles),
        _ => by_libtorch(rows, first, heads, head_dim, norm, angles, style),
    }
}

/// Which columns are rotated, and how.
#[derive(Clone, Copy)]
struct Part {
    first: usize,
    heads: usize,
    head_dim: usize,
    style: RotaryStyle,
}

fn on_host<T: LaneFloat>(
    level: Level,
    rows: &Tensor,
    part: Part,
    norm: Option<(&Tensor, f64)>,
    angles: &RotaryAngles,
) {
    let weight = norm.map(|(weight, _)| weight.to_kind(T::KIND).contiguous());
    let weight = weight.as_ref().map(host::slice::<T>);
    let eps = norm.map_or(0.0, |(_, eps)| eps as f32);
    let width = usize::try_from(rows.size()[1]).unwrap_or(0);
    let RotaryAngles { cos, sin, half, .. } = angles;
    let (half, columns) = (*half, part.heads * part.head_dim);
    let values = host::slice_mut::<T>(rows);
    let count = values.len().checked_div(width).unwrap_or(0);
    assert!(
        part.first + columns <= width
            && 2 * half <= part.head_dim
            && cos.len() == count * half
            && weight.is_none_or(|weight| weight.len() == part.head_dim),
        "{columns} columns from {} of {width}, {} angles for {count} rows",
        part.first,
        cos.len()
    );
    let pieces = (count * columns / WORTH_A_THREAD).clamp(1, 4 * pool::threads());
    let step = count.div_ceil(pieces).max(1);
    let shared = SharedMut::new(values);
    pool::run(count.div_ceil(step), |piece| {
        for row in piece * step..count.min((piece + 1) * step) {
            // SAFETY: no other piece has this row.
            let values = unsafe { shared.slice(row * width + part.first, columns) };
            let (cos, sin) = (&cos[row * half..(row + 1) * half], &sin[row * half..(row + 1) * half]);
            dispatch(
                level,
                Row { values, head_dim: part.head_dim, style: part.style, weight, eps, cos, sin },
            );
        }
    });
}

/// The heads of one row.
struct Row<'a, T> {
    values: &'a mut [T],
    head_dim: usize,
    style: RotaryStyle,
    /// Weight of the norm, with `eps`.
    weight: Option<&'a [T]>,
    eps: f32,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl<T: LaneFloat> Kernel for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { values, head_dim, style, weight, eps, cos, sin } = self;
        let half = cos.len();
        let mut wide = [0f32; MOST];
        for head in values.chunks_exact_mut(head_dim) {
            let wide = &mut wide[..head_dim];
            wide.iter_mut().zip(&*head).for_each(|(wide, value)| *wide = value.widen());
            if let Some(weight) = weight {
                let mut sums = [0f32; 16];
                let pieces = wide.chunks_exact(16);
                let rest: f32 = pieces.remainder().iter().map(|value| value * value).sum();
                for piece in pieces {
                    sums.iter_mut().zip(piece).for_each(|(sum, value)| *sum += value * value);
                }
                let mean = (sums.iter().sum::<f32>() + rest) / head_dim as f32;
                let factor = 1.0 / (mean + eps).sqrt();
                for (wide, weight) in wide.iter_mut().zip(weight) {
                    let normed = T::narrow(*wide * factor).widen();
                    *wide = T::narrow(normed * weight.widen()).widen();
                }
                for (to, wide) in head[2 * half..].iter_mut().zip(&wide[2 * half..]) {
                    *to = T::narrow(*wide);
                }
            }
            match style {
                RotaryStyle::Halves => halves::<L, T>(wide, cos, sin, head),
                RotaryStyle::Pairs => {
                    let pairs = head.chunks_exact_mut(2).zip(wide.chunks_exact(2));
                    for ((to, pair), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
                        to[0] = T::narrow(pair[0] * cos - pair[1] * sin);
                        to[1] = T::narrow(pair[0] * sin + pair[1] * cos);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn halves<L: Lanes, T: LaneFloat>(wide: &[f32], cos: &[f32], sin: &[f32], to: &mut [T]) {
    let half = cos.len();
    let whole = half / 16 * 16;
    let (ones, others) = wide[..2 * half].split_at(half);
    let (to_ones, to_others) = to[..2 * half].split_at_mut(half);
    for at in (0..whole).step_by(16) {
        // SAFETY: all six slices have at least `whole` elements; `dispatch` chose a level that the CPU has.
        unsafe {
            let (one, other) = (L::load(ones.as_ptr().add(at)), L::load(others.as_ptr().add(at)));
            let (cos, sin) = (L::load(cos.as_ptr().add(at)), L::load(sin.as_ptr().add(at)));
            let turned = L::sub(L::mul(one, cos), L::mul(other, sin));
            T::store::<L>(to_ones.as_mut_ptr().add(at), turned);
            T::store::<L>(to_others.as_mut_ptr().add(at), L::add(L::mul(one, sin), L::mul(other, cos)));
        }
    }
    for at in whole..half {
        to_ones[at] = T::narrow(ones[at] * cos[at] - others[at] * sin[at]);
        to_others[at] = T::narrow(ones[at] * sin[at] + others[at] * cos[at]);
    }
}

fn by_libtorch(
    rows: &Tensor,
    first: usize,
    heads: usize,
    head_dim: usize,
    norm: Option<(&Tensor, f64)>,
    angles: &RotaryAngles,
    style: RotaryStyle,
) {
    let (heads, head_dim, half) = (heads as i64, head_dim as i64, angles.half as i64);
    let part = rows.narrow(-1, first as i64, heads * head_dim).unflatten(-1, [heads, head_dim]);
    let normed = match norm {
        Some((weight, eps)) => super::rms_norm(&part, weight, eps),
        None => part.shallow_clone(),
    };
    let host;
    let (cos, sin) = match &angles.device {
        Some((cos, sin)) => (cos, sin),
        None => {
            let tensor = |values: &[f32]| Tensor::from_slice(values).view([-1, 1, half]);
            host = (tensor(&angles.cos), tensor(&angles.sin));
            (&host.0, &host.1)
        }
    };
    let wide = normed.narrow(-1, 0, 2 * half).to_kind(Kind::Float);
    let (one, other) = match style {
        RotaryStyle::Halves => (wide.narrow(-1, 0, half), wide.narrow(-1, half, half)),
        RotaryStyle::Pairs => (wide.slice(-1, 0, None, 2), wide.slice(-1, 1, None, 2)),
    };
    let turned = [&one * cos - &other * sin, &one * sin + &other * cos];
    let turned = match style {
        RotaryStyle::Halves => Tensor::cat(&turned, -1),
        RotaryStyle::Pairs => Tensor::stack(&turned, -1).flatten(-2, -1),
    };
    let rest = normed.narrow(-1, 2 * half, head_dim - 2 * half);
    let result = Tensor::cat(&[turned.to_kind(rows.kind()), rest], -1);
    part.shallow_clone().copy_(&result);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    fn agrees_with_libtorch_and_leaves_the_other_columns(
        #[values((Kind::Float, 1e-6), (Kind::BFloat16, 4e-3), (Kind::Half, 6e-4))] kind: (Kind, f64),
        #[values((9, 64, 32), (2, 128, 32), (3, 20, 10), (5, 72, 20), (1, 8, 4))] sizes: (
            usize,
            usize,
            usize,
        ),
        #[values(RotaryStyle::Halves, RotaryStyle::Pairs)] style: RotaryStyle,
        #[values(true, false)] normed: bool,
    ) {
        tch::manual_seed(33);
        let ((kind, bound), (heads, head_dim, half)) = (kind, sizes);
        let (first, count) = (24, 130);
        let width = (first + heads * head_dim + 7) as i64;
        let rows = Tensor::randn([count as i64, width], (Kind::Float, Device::Cpu)).to_kind(kind);
        let weight = Tensor::randn([head_dim as i64], (Kind::Float, Device::Cpu)).to_kind(kind);
        let frequencies: Vec<f32> = (0..half).map(|i| 100f32.powf(-(i as f32) / half as f32)).collect();
        let angles = RotaryAngles::at((0..count).map(|row| row * 3), &frequencies, 1.0, Device::Cpu);
        assert_eq!(angles.rows(), count);
        let norm = normed.then_some((&weight, 1e-6));
        let expected = rows.copy();
        by_libtorch(&expected, first, heads, head_dim, norm, &angles, style);
        for level in Level::available() {
            let result = rows.copy();
            let part = Part { first, heads, head_dim, style };
            match kind {
                Kind::BFloat16 => on_host::<bf16>(level, &result, part, norm, &angles),
                Kind::Half => on_host::<f16>(level, &result, part, norm, &angles),
                _ => on_host::<f32>(level, &result, part, norm, &angles),
            }
            let difference = (result.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).norm();
            let error = f64::try_from(difference / expected.to_kind(Kind::Double).norm()).expect("a number");
            assert!(error < bound, "{level:?}: {error}");
            assert_eq!(result.narrow(1, 0, first as i64), rows.narrow(1, 0, first as i64));
            assert_eq!(result.narrow(1, width - 7, 7), rows.narrow(1, width - 7, 7));
        }
    }

    #[test]
    fn a_pair_is_rotated_by_its_angle() {
        let mut rows = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([1, 4]);
        let angles = RotaryAngles::new(vec![0.0, 1.0], vec![1.0, 0.0], 2, Device::Cpu);
        rotate_heads(&mut rows, 0, 1, 4, None, &angles, RotaryStyle::Halves);
        assert_eq!(rows, Tensor::from_slice(&[-3f32, 2.0, 1.0, 4.0]).view([1, 4]));
        rotate_heads(&mut rows, 0, 1, 4, None, &angles, RotaryStyle::Pairs);
        assert_eq!(rows, Tensor::from_slice(&[-2f32, -3.0, 1.0, 4.0]).view([1, 4]));
    }
}
