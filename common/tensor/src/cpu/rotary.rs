//! Rotary position embedding (Su et al. 2021) of queries and keys in place, with the norm per head before it.

use tch::{Device, Kind, Tensor};

/// Which elements of a head are turned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryStyle {
    /// Element `i` with element `i + n/2` of the `n` that are rotated (GPT-NeoX, Llama in transformers, Qwen, GLM-4).
    Halves,
    /// Element `2i` with element `2i + 1` (the paper; GGUF's llama, DeepSeek, GLM-4 lite).
    Pairs,
}

/// Cosines and sines of the rotations of each row of a step; made once a step and used in every layer.
pub struct Angles {
    /// `[rows, half]` f32 on the host.
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
    /// The same as tensors where the model is not on the CPU.
    device: Option<(Tensor, Tensor)>,
}

impl Angles {
    /// Angle `position · inverse_frequencies[i]` (as f32, like the references), both functions times `factor` (1 but for
    /// long-context scalings). Rotates the first `2 · inverse_frequencies.len()` elements of each head.
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

    /// From ready rows `[rows, half]` (mrope makes its own).
    pub fn new(cos: Vec<f32>, sin: Vec<f32>, half: usize, device: Device) -> Self {
        assert!(
            cos.len() == sin.len() && (half == 0 || cos.len().is_multiple_of(half)),
            "whole rows of {half}"
        );
        let tensor = |values: &[f32]| Tensor::from_slice(values).view([-1, 1, half as i64]).to_device(device);
        let device = (device != Device::Cpu).then(|| (tensor(&cos), tensor(&sin)));
        Self { cos, sin, half, device }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }
}

/// Normalises (with `norm`: weight `[head_dim]` and eps, as [`crate::rms_norm`]) and rotates `heads` heads of each row in
/// place: columns `first .. first + heads · head_dim` of `rows` `[T, width]`, contiguous, f32, bf16 or f16.
///
/// The first `2 · half` elements of a head are rotated, in f32; the rest stays. `angles` has `T` rows.
pub fn rotate_heads(
    rows: &mut Tensor,
    first: usize,
    heads: usize,
    head_dim: usize,
    norm: Option<(&Tensor, f64)>,
    angles: &Angles,
    style: RotaryStyle,
) {
    by_libtorch(rows, first, heads, head_dim, norm, angles, style);
}

fn by_libtorch(
    rows: &Tensor,
    first: usize,
    heads: usize,
    head_dim: usize,
    norm: Option<(&Tensor, f64)>,
    angles: &Angles,
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
