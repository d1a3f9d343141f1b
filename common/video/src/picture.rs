//! RGB pictures: resampling as Pillow does it, cropping, to tensors.

use tch::{Device, Kind, Tensor};

/// An RGB picture, rows from the top, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// How a pixel is made from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Cubic with a = −0.5.
    Bicubic,
    /// Windowed sinc of three lobes.
    Lanczos,
}

impl Filter {
    /// Reach at scale one.
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            Self::Bicubic if distance < 1.0 => ((1.5 * distance) - 2.5) * distance * distance + 1.0,
            Self::Bicubic if distance < 2.0 => ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0,
            Self::Lanczos if distance < 3.0 => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

impl Picture {
    /// From `width · height · 3` bytes; `None` when they are not that many or a side is zero.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        let bytes = width.checked_mul(height)?.checked_mul(3)?;
        (bytes == pixels.len() && bytes > 0).then_some(Self { width, height, pixels })
    }

    /// Pixels a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, rows from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Resamples to `width × height`, byte for byte as Pillow's `Image.resize`: across first, then down, each with
    /// weights in 22-bit fixed point and a result rounded to a byte.
    #[must_use]
    pub fn resized(&self, width: usize, height: usize, filter: Filter) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let across = if width == self.width { self.clone() } else { self.resampled_across(width, filter) };
        if height == self.height {
            across
        } else {
            across.transposed().resampled_across(height, filter).transposed()
        }
    }

    /// The part of `width × height` in the middle; what lies outside the picture is black.
    #[must_use]
    pub fn center_cropped(&self, width: usize, height: usize) -> Self {
        let mut pixels = vec![0; width * height * 3];
        let start = |ours: usize, theirs: usize| ours.saturating_sub(theirs) / 2;
        let (left, top) = (start(self.width, width), start(self.height, height));
        let (to_left, to_top) = (start(width, self.width), start(height, self.height));
        let (columns, rows) = (width.min(self.width), height.min(self.height));
        for row in 0..rows {
            let from = ((top + row) * self.width + left) * 3;
            let to = ((to_top + row) * width + to_left) * 3;
            pixels[to..to + columns * 3].copy_from_slice(&self.pixels[from..from + columns * 3]);
        }
        Self { width, height, pixels }
    }

    /// Fills `width × height` without distortion: resampled to cover it, the overhanging sides cut off.
    #[must_use]
    pub fn covering(&self, width: usize, height: usize) -> Self {
        let limited = self.limited_ratio(LONGEST_RATIO);
        if limited.width != self.width || limited.height != self.height {
            return limited.covering(width, height);
        }
        let scale = (width as f64 / self.width as f64).max(height as f64 / self.height as f64);
        let side = |ours: usize, wanted: usize| ((ours as f64 * scale).round() as usize).max(wanted);
        self.resized(side(self.width, width), side(self.height, height), Filter::Lanczos)
            .center_cropped(width, height)
    }

    /// `[3, height, width]` f32, 0 to 255.
    pub fn to_tensor(&self) -> Tensor {
        let shape = [self.height as i64, self.width as i64, 3];
        Tensor::from_data_size(&self.pixels, &shape, Kind::Uint8)
            .permute([2, 0, 1])
            .to_device(Device::Cpu)
            .to_kind(Kind::Float)
            .contiguous()
    }

    /// Without the ends of a very long side: the middle of `limit` times the short side.
    #[must_use]
    pub fn limited_ratio(&self, limit: usize) -> Self {
        let longest = self.width.min(self.height).saturating_mul(limit);
        if self.width.max(self.height) <= longest {
            return self.clone();
        }
        self.center_cropped(self.width.min(longest), self.height.min(longest))
    }

    fn transposed(&self) -> Self {
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for column in 0..self.width {
            for row in 0..self.height {
                let at = (row * self.width + column) * 3;
                pixels.extend_from_slice(&self.pixels[at..at + 3]);
            }
        }
        Self { width: self.height, height: self.width, pixels }
    }

    fn resampled_across(&self, width: usize, filter: Filter) -> Self {
        let taps = taps(self.width, width, filter);
        let mut pixels = Vec::with_capacity(width * self.height * 3);
        for row in self.pixels.chunks_exact(self.width * 3) {
            for (first, weights) in &taps {
                for channel in 0..3 {
                    let values = row[first * 3 + channel..].iter().step_by(3);
                    let sum: i64 =
                        weights.iter().zip(values).map(|(&weight, &value)| weight * i64::from(value)).sum();
                    pixels.push(((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8);
                }
            }
        }
        Self { width, height: self.height, pixels }
    }
}

/// Pictures longer than this times their short side lose their ends before they are scaled up, for memory's sake.
pub(crate) const LONGEST_RATIO: usize = 16;

/// Bits after the point of a weight.
const PRECISION: u32 = 22;

/// For each pixel of the new row the first old one it is made from, and the weights from there on.
fn taps(old: usize, new: usize, filter: Filter) -> Vec<(usize, Vec<i64>)> {
    let scale = old as f64 / new as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    (0..new)
        .map(|pixel| {
            let center = (pixel as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5).max(0.0) as usize).min(old);
            let weights: Vec<f64> =
                (first..last).map(|at| filter.weight((at as f64 - center + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = weights.iter().map(|weight| {
                let scaled = weight / sum * f64::from(1u32 << PRECISION);
                (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i64
            });
            (first, fixed.collect())
        })
        .collect()
}
