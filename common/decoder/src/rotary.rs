//! Angles of the rotary positions of a step.

use std::f64::consts::PI;

use tch::Device;
use videosdgx_tensor::{RotaryAngles, RotaryStyle};

use crate::positions::Position;
use crate::{Llama3Scaling, RopeConfig, RopeLayout, RopeScaling};

/// Rotary positions of a model: one frequency a pair of a head's values.
#[derive(Debug)]
pub(crate) struct Rotary {
    /// In f32, like the references.
    frequencies: Vec<f32>,
    sections: Option<[i64; 3]>,
    style: RotaryStyle,
    device: Device,
}

impl Rotary {
    /// `factors` divide the frequencies where a file brings its own (GGUF's `rope_freqs`), one a frequency.
    pub(crate) fn new(config: &RopeConfig, factors: Option<&[f32]>, device: Device) -> Self {
        let mut frequencies = frequencies(config);
        for (frequency, factor) in frequencies.iter_mut().zip(factors.unwrap_or_default()) {
            *frequency /= factor;
        }
        let style = match config.layout {
            RopeLayout::Halves => RotaryStyle::Halves,
            RopeLayout::Pairs => RotaryStyle::Pairs,
        };
        Self { frequencies, sections: config.sections, style, device }
    }

    /// Which elements of a head are rotated together.
    pub(crate) fn style(&self) -> RotaryStyle {
        self.style
    }

    /// Cosines and sines at `positions`, one row each.
    pub(crate) fn angles(&self, positions: &[Position]) -> RotaryAngles {
        let Some(sections) = self.sections else {
            let positions = positions.iter().map(|Position([time, ..])| *time);
            return RotaryAngles::at(positions, &self.frequencies, 1.0, self.device);
        };
        let mut rows = (Vec::new(), Vec::new());
        for Position(position) in positions {
            for (index, frequency) in self.frequencies.iter().enumerate() {
                let angle = position[axis(index, sections)] as f32 * frequency;
                let (sin, cos) = f64::from(angle).sin_cos();
                rows.0.push(cos as f32);
                rows.1.push(sin as f32);
            }
        }
        RotaryAngles::new(rows.0, rows.1, self.frequencies.len(), self.device)
    }
}

/// Which of time, height and width frequency `index` follows: height has 1, 4, 7 … and width 2, 5, 8 …, up to three
/// times the number of frequencies in its section; time has the others.
fn axis(index: usize, [_, height, width]: [i64; 3]) -> usize {
    match (index % 3, index as i64) {
        (1, index) if index < 3 * height => 1,
        (2, index) if index < 3 * width => 2,
        _ => 0,
    }
}

/// `theta^(-2i / dim)`, scaled as configured.
fn frequencies(config: &RopeConfig) -> Vec<f32> {
    let dim = config.dim as f32;
    let theta = config.theta as f32;
    let plain = (0..config.dim / 2).map(|index| 1.0 / theta.powf((2 * index) as f32 / dim));
    match &config.scaling {
        RopeScaling::None => plain.collect(),
        RopeScaling::Linear(factor) => plain.map(|frequency| frequency / *factor as f32).collect(),
        RopeScaling::Llama3(scaling) => plain.map(|frequency| llama3(frequency, scaling)).collect(),
    }
}

/// Llama 3.1's rule (`_compute_llama3_parameters` of transformers).
fn llama3(frequency: f32, scaling: &Llama3Scaling) -> f32 {
    let wavelength = 2.0 * PI / f64::from(frequency);
    if wavelength < scaling.original_context / scaling.high {
        return frequency;
    }
    let divided = f64::from(frequency) / scaling.factor;
    if wavelength > scaling.original_context / scaling.low {
        return divided as f32;
    }
    let smooth = (scaling.original_context / wavelength - scaling.low) / (scaling.high - scaling.low);
    ((1.0 - smooth) * divided + smooth * f64::from(frequency)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_interleaved_as_published() {
        let sections = [24, 20, 20];
        let axes: Vec<usize> = (0..64).map(|index| axis(index, sections)).collect();
        assert_eq!(axes[..7], [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(axes[57..], [0, 1, 2, 0, 0, 0, 0]);
        for (axis, count) in sections.iter().enumerate() {
            assert_eq!(axes.iter().filter(|&&one| one == axis).count() as i64, *count);
        }
    }

    #[test]
    fn llama3_scaling_keeps_high_and_divides_low_frequencies() {
        let scaling = Llama3Scaling { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192.0 };
        assert_eq!(llama3(1.0, &scaling), 1.0);
        assert_eq!(llama3(1e-5, &scaling), 1e-5 / 8.0);
        let between = llama3(0.0015, &scaling);
        assert!(between < 0.0015 && between > 0.0015 / 8.0);
    }
}
