//! Exponentials of a whole row, and bounds that avoid sorting it.

/// Number of values per partial sum or partial maximum.
const BLOCK: usize = 64;

/// `e^((logit - max) · scale)` of each value of a row, and their sum.
///
/// The exponentials dominate the cost for a row of 150,000 values. This implementation has no branches and no calls, so that the
/// compiler vectorises it. Its relative error is below 3e-7.
#[derive(Debug, Default)]
pub(super) struct Weights {
    values: Vec<f32>,
    /// Sums of [`BLOCK`] values each.
    sums: Vec<f32>,
    total: f64,
}

impl Weights {
    /// Computes the weights of a row whose largest value is `max`, which must be finite.
    pub(super) fn fill(&mut self, row: &[f32], max: f32, scale: f32) {
        self.values.clear();
        self.values.extend(row.iter().map(|logit| exp((logit - max) * scale)));
        self.sums.clear();
        self.sums.extend(self.values.chunks(BLOCK).map(sum));
        self.total = self.sums.iter().map(|sum| f64::from(*sum)).sum();
    }

    pub(super) fn total(&self) -> f64 {
        self.total
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// The id at which the cumulative sum exceeds the share `at` (in [0, 1)) of the total.
    pub(super) fn draw(&self, at: f64) -> Option<u32> {
        let mut rest = at * self.total;
        let mut last = None;
        for (number, sum) in self.sums.iter().enumerate() {
            let sum = f64::from(*sum);
            if rest >= sum {
                rest -= sum;
                last = (sum > 0.0).then_some(number).or(last);
                continue;
            }
            return self.draw_in(number, rest);
        }
        // Rounding may leave the sums slightly below the target.
        self.draw_in(last?, f64::INFINITY)
    }

    fn draw_in(&self, block: usize, mut rest: f64) -> Option<u32> {
        let first = block * BLOCK;
        let values = &self.values[first..(first + BLOCK).min(self.values.len())];
        let mut last = None;
        for (value, id) in values.iter().zip(first as u32..) {
            if *value > 0.0 {
                last = Some(id);
                rest -= f64::from(*value);
                if rest < 0.0 {
                    break;
                }
            }
        }
        last
    }
}

/// A lower bound that at least `k` values of the row reach, and not many more: the `k`-th largest of the blocks' maxima.
/// Negative infinity when the row has too few blocks.
pub(super) fn bound_of_top(row: &[f32], k: usize, maxima: &mut Vec<f32>) -> f32 {
    if k == 0 || k > row.len() / BLOCK {
        return f32::NEG_INFINITY;
    }
    maxima.clear();
    maxima.extend(row.chunks(BLOCK).map(largest));
    let (_, bound, _) = maxima.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    *bound
}

/// The largest value of a row without NaN.
pub(super) fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, value| if *value > max { *value } else { max })
}

fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// `e^x` for `x` ≤ 0 (slightly above is harmless); 0 below -87. Cody and Waite's range reduction to a power of two, and a Taylor
/// polynomial of degree 6 for the remainder.
fn exp(x: f32) -> f32 {
    const LEAST: f32 = -87.0;
    /// Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let kept = if x > LEAST { x } else { LEAST };
    let rounded = kept * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let left = kept - power * LN_2_HIGH - power * LN_2_LOW;
    let series = 1.0 / 720.0;
    let series = series * left + 1.0 / 120.0;
    let series = series * left + 1.0 / 24.0;
    let series = series * left + 1.0 / 6.0;
    let series = series * left + 0.5;
    let series = series * left + 1.0;
    let series = series * left + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    if x > LEAST { series * f32::from_bits(exponent) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_close_everywhere() {
        for step in 0..200_000_u32 {
            let x = -f64::from(step) * 86.9 / 200_000.0;
            let found = f64::from(exp(x as f32));
            let wanted = f64::from(x as f32).exp();
            assert!((found / wanted - 1.0).abs() < 3e-7, "{x}: {found} {wanted}");
        }
        assert_eq!((exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn sums_and_draws_agree_with_the_direct_computation() {
        let row: Vec<f32> = (0..1000_u32).map(|id| ((id * 7919) % 1009) as f32 / 100.0 - 12.0).collect();
        let max = largest(&row);
        assert_eq!(max, row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut weights = Weights::default();
        weights.fill(&row, max, 0.7);
        let plain: Vec<f64> = row.iter().map(|logit| (f64::from(logit - max) * 0.7).exp()).collect();
        let total: f64 = plain.iter().sum();
        assert!((weights.total() / total - 1.0).abs() < 1e-6);
        for draw in 0..1000_u32 {
            let at = (f64::from(draw) + 0.5) / 1000.0;
            let mut sum = 0.0;
            let wanted = plain.iter().position(|weight| {
                sum += weight;
                sum > at * total
            });
            let found = weights.draw(at).unwrap() as usize;
            let near = wanted.unwrap();
            assert!(found.abs_diff(near) <= 1, "{at}: {found} {near}");
        }
        assert!(weights.draw(1.0).is_some());
    }

    #[test]
    fn the_bound_is_reached_by_enough_and_by_few() {
        let row: Vec<f32> =
            (0..50_000_u32).map(|id| ((id.wrapping_mul(2_654_435_761)) >> 8) as f32).collect();
        for k in [1, 5, 40, 200] {
            let bound = bound_of_top(&row, k, &mut Vec::new());
            let reached = row.iter().filter(|value| **value >= bound).count();
            assert!(reached >= k && reached <= 2 * k + 64, "{k}: {reached}");
        }
        assert_eq!(bound_of_top(&row[..100], 5, &mut Vec::new()), f32::NEG_INFINITY);
    }
}
