//! Antialiased resampling in fixed-point arithmetic.

/// Interpolation filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Cubic with a = −0.5.
    Bicubic,
    /// Sinc windowed to three lobes.
    Lanczos,
}

/// Precision of the weights. Both round to bytes after each direction; few pixels differ, by 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// 22 fractional bits: Pillow's `ImagingResample`.
    Pillow,
    /// As many fractional bits as the largest weight of a direction leaves in 16: libtorch's `interpolate(antialias=True)` of bytes,
    /// which torchvision's `resize` calls.
    Libtorch,
}

impl Filter {
    /// Radius at scale 1, in pixels.
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

/// Resamples `pixels` of `[width, height]` to another size.
pub(crate) fn resampled(
    pixels: &[u8],
    [width, height]: [usize; 2],
    [new_width, new_height]: [usize; 2],
    filter: Filter,
    arithmetic: Arithmetic,
) -> Vec<u8> {
    let narrowed = (new_width != width)
        .then(|| resample_rows(pixels, width, &Taps::new(width, new_width, filter, arithmetic)));
    let rows = narrowed.as_deref().unwrap_or(pixels);
    if new_height == height {
        return narrowed.unwrap_or_else(|| pixels.to_vec());
    }
    resample_columns(rows, new_width * 3, &Taps::new(height, new_height, filter, arithmetic))
}

/// Source pixels and weights of each new pixel of one direction.
struct Taps {
    /// First source pixel, and the weights of it and its successors.
    pixels: Vec<(usize, Vec<i32>)>,
    /// Fractional bits of the weights.
    precision: u32,
}

impl Taps {
    fn new(old: usize, new: usize, filter: Filter, arithmetic: Arithmetic) -> Self {
        let scale = old as f64 / new as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let exact: Vec<(usize, Vec<f64>)> = (0..new)
            .map(|pixel| {
                let center = (pixel as f64 + 0.5) * scale;
                let first = (center - support + 0.5).max(0.0) as usize;
                let last = ((center + support + 0.5).max(0.0) as usize).min(old);
                let mut weights: Vec<f64> =
                    (first..last).map(|at| filter.weight((at as f64 - center + 0.5) / stretch)).collect();
                let sum: f64 = weights.iter().sum();
                for weight in &mut weights {
                    *weight /= sum;
                }
                (first, weights)
            })
            .collect();
        let precision = match arithmetic {
            Arithmetic::Pillow => 22,
            Arithmetic::Libtorch => {
                let largest = exact.iter().flat_map(|(_, weights)| weights).copied().fold(0.0, f64::max);
                let fits = |bits: u32| 0.5 + largest * f64::from(1u32 << bits) < f64::from(1u32 << 15);
                (0..22).find(|bits| !fits(bits + 1)).unwrap_or(22)
            }
        };
        let fixed = |weight: &f64| {
            let scaled = weight * f64::from(1u32 << precision);
            (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        let pixels =
            exact.iter().map(|(first, weights)| (*first, weights.iter().map(fixed).collect())).collect();
        Self { pixels, precision }
    }

    /// Rounds a sum of weighted bytes, which started at [`Taps::half`], to a byte. Sums fit into `i32`: the magnitudes of a
    /// pixel's weights add up to less than 2, so a sum is less than 2²² · 2 · 255 < 2³¹.
    fn rounded(&self, sum: i32) -> u8 {
        (sum >> self.precision).clamp(0, 255) as u8
    }

    fn half(&self) -> i32 {
        1 << (self.precision - 1)
    }
}

/// Resamples each row.
fn resample_rows(pixels: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let mut resampled = Vec::with_capacity(pixels.len() / width * taps.pixels.len());
    for row in pixels.chunks_exact(width * 3) {
        for (first, weights) in &taps.pixels {
            let mut sums = [taps.half(); 3];
            for (pixel, &weight) in row[first * 3..].chunks_exact(3).zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(value);
                }
            }
            resampled.extend(sums.map(|sum| taps.rounded(sum)));
        }
    }
    resampled
}

/// Resamples each column; `stride`: bytes of a row.
fn resample_columns(rows: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    let mut resampled = Vec::with_capacity(stride * taps.pixels.len());
    let mut sums = vec![0; stride];
    for (first, weights) in &taps.pixels {
        sums.fill(taps.half());
        for (row, &weight) in rows[first * stride..].chunks_exact(stride).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(value);
            }
        }
        resampled.extend(sums.iter().map(|&sum| taps.rounded(sum)));
    }
    resampled
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    fn a_plain_picture_stays_plain(
        #[values(Filter::Bicubic, Filter::Lanczos)] filter: Filter,
        #[values(Arithmetic::Pillow, Arithmetic::Libtorch)] arithmetic: Arithmetic,
        #[values([1, 1], [40, 3], [7, 90], [640, 2])] size: [usize; 2],
    ) {
        for value in [0, 1, 127, 255] {
            let pixels = vec![value; 23 * 11 * 3];
            let result = resampled(&pixels, [23, 11], size, filter, arithmetic);
            assert_eq!(result, vec![value; size[0] * size[1] * 3]);
        }
    }

    #[test]
    fn weights_of_libtorch_use_sixteen_bits() {
        let taps = Taps::new(100, 33, Filter::Bicubic, Arithmetic::Libtorch);
        let largest = taps.pixels.iter().flat_map(|(_, weights)| weights).copied().max();
        assert!(largest.is_some_and(|weight| (1 << 14..1 << 15).contains(&weight)), "{largest:?}");
    }
}
