//! Rotary angles from positions given as fractions of a largest one.

use serde::Deserialize;
use videosdgx_tensor::{Device, Kind, Rope, RotaryStyle, Tensor};

/// Which elements are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeType {
    /// Element `2i` with element `2i + 1`.
    #[default]
    Interleaved,
    /// Element `i` with element `i + n/2` of a head's `n`: what the published models have.
    Split,
}

/// Rotary embedding of an attention layer: each element of a head has a frequency of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotary {
    /// Width of all heads together.
    pub(crate) width: i64,
    pub(crate) heads: i64,
    pub(crate) theta: f64,
    /// Whether frequencies are computed in f64 before they are rounded to f32.
    pub(crate) double_precision: bool,
    pub(crate) rope_type: RopeType,
}

impl Rotary {
    /// Angles at `fractions` f32 `[tokens, axes]` on the CPU: positions, divided by the largest of each axis.
    ///
    /// There are `width / (2 · axes)` frequencies from π/2 to theta · π/2, multiplied with `2 · fraction − 1` of each
    /// axis in f32; where `width` is not a multiple, the first elements are not rotated. All of it is computed on the
    /// CPU: the largest angles are so large that rounding them otherwise makes other numbers.
    pub(crate) fn at(&self, fractions: &Tensor, device: Device) -> Rope {
        let size = fractions.size();
        let (tokens, axes) = (size[0], size[1]);
        let steps = self.width / (2 * axes);
        let kind = if self.double_precision { Kind::Double } else { Kind::Float };
        let exponents = Tensor::linspace(0.0, 1.0, steps, (kind, Device::Cpu));
        let frequencies =
            (Tensor::pow_scalar(self.theta, &exponents) * std::f64::consts::PI / 2.0).to_kind(Kind::Float);
        // [tokens, steps, axes]: neighbouring angles belong to different axes.
        let angles = (fractions.unsqueeze(-1) * 2.0 - 1.0) * frequencies;
        let angles = angles.transpose(-1, -2).reshape([tokens, steps * axes]);
        let still = Tensor::zeros([tokens, self.width / 2 - steps * axes], (Kind::Float, Device::Cpu));
        let angles = Tensor::cat(&[still, angles], 1).to_device(device);
        let style = match self.rope_type {
            RopeType::Interleaved => RotaryStyle::Pairs,
            RopeType::Split => RotaryStyle::Halves,
        };
        Rope::per_head(&angles, self.heads, style)
    }
}
