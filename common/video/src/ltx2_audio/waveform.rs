//! Sampling rates and channels of given sound.

use std::f64::consts::PI;

/// Zero crossings of the sinc function on each side.
const CROSSINGS: f64 = 6.0;
/// Cutoff in units of half the smaller sampling rate.
const ROLLOFF: f64 = 0.99;
const HIGHEST_RATE: u32 = 768_000;

/// Resamples with a windowed sinc filter (6 zero crossings a side, Hann window, cutoff at 0.99 of the smaller Nyquist
/// frequency): the filter of `torchaudio.functional.resample`, with which the published models were trained and which no
/// crate offers. Only the taps within the window are computed, so rates without a common divisor need no large tables.
///
/// # Errors
/// A message naming a sampling rate outside 1 Hz to 768 kHz.
pub fn resampled(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>, String> {
    for rate in [from, to] {
        if !(1..=HIGHEST_RATE).contains(&rate) {
            return Err(format!("a sampling rate of {rate} Hz is not supported, 1 to {HIGHEST_RATE} Hz are"));
        }
    }
    let divisor = greatest_common_divisor(from, to);
    let (from, to) = ((from / divisor) as usize, (to / divisor) as usize);
    if from == to || samples.is_empty() {
        return Ok(samples.to_vec());
    }
    let filter = Filter::new(from, to);
    let length = (samples.len() * to).div_ceil(from);
    Ok((0..length).map(|at| filter.at(samples, at)).collect())
}

struct Filter {
    from: usize,
    to: usize,
    /// Taps on each side of the sample at or before an output.
    side: usize,
    /// `[to, 2 · side]`: weights for each position between two samples.
    weights: Vec<f32>,
}

impl Filter {
    fn new(from: usize, to: usize) -> Self {
        let cutoff = from.min(to) as f64 * ROLLOFF;
        let side = (CROSSINGS * from as f64 / cutoff).ceil() as usize;
        let mut weights = Vec::with_capacity(to * 2 * side);
        for phase in 0..to {
            let whole = phase * from / to;
            for tap in 0..2 * side {
                let input = whole as f64 + tap as f64 - (side as f64 - 1.0);
                let time = (input / from as f64 - phase as f64 / to as f64) * cutoff;
                weights.push((windowed_sinc(time) * cutoff / from as f64) as f32);
            }
        }
        Self { from, to, side, weights }
    }

    /// Output `at`.
    fn at(&self, samples: &[f32], at: usize) -> f32 {
        let (period, phase) = (at / self.to, at % self.to);
        // The sample at or before the output, and the first that counts (from `side` before index 0).
        let centre = period * self.from + phase * self.from / self.to;
        let taps = 2 * self.side;
        let weights = &self.weights[phase * taps..(phase + 1) * taps];
        let first = (centre + 1).checked_sub(self.side);
        let (samples, weights) = match first {
            Some(first) => (samples.get(first..).unwrap_or_default(), weights),
            None => (samples, &weights[self.side - (centre + 1)..]),
        };
        samples.iter().zip(weights).map(|(sample, weight)| sample * weight).sum()
    }
}

fn windowed_sinc(time: f64) -> f64 {
    if time.abs() >= CROSSINGS {
        return 0.0;
    }
    let window = (time * PI / CROSSINGS / 2.0).cos().powi(2);
    let sinc = if time == 0.0 { 1.0 } else { (time * PI).sin() / (time * PI) };
    sinc * window
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Sound with `count` channels: one channel is repeated; 5.1 and 7.1 (left, right, centre, low frequencies, sides, and for
/// 7.1 backs) are mixed to two as the models were trained on; of other layouts the mean is repeated.
///
/// # Errors
/// A message when there is no channel, or when lengths differ.
pub(super) fn with_channels(channels: &[Vec<f32>], count: usize) -> Result<Vec<Vec<f32>>, String> {
    let Some(first) = channels.first() else { return Err("the sound has no channel".to_owned()) };
    if channels.iter().any(|channel| channel.len() != first.len()) {
        return Err("the channels of the sound have different lengths".to_owned());
    }
    if channels.len() == count {
        return Ok(channels.to_vec());
    }
    let sum = |parts: &[(usize, f32)]| -> Vec<f32> {
        let sample = |at: usize| parts.iter().map(|&(channel, weight)| channels[channel][at] * weight).sum();
        (0..first.len()).map(sample).collect()
    };
    // 1 for the main channel and √½ for each of the others, divided by the sum.
    const HALF_POWER: f32 = 0.707;
    Ok(match (channels.len(), count) {
        (6, 2) => {
            let total = 1.0 + 2.0 * HALF_POWER;
            let side =
                |main, side| sum(&[(main, 1.0 / total), (2, HALF_POWER / total), (side, HALF_POWER / total)]);
            vec![side(0, 4), side(1, 5)]
        }
        (8, 2) => {
            let total = 1.0 + 3.0 * HALF_POWER;
            let other = HALF_POWER / total;
            let side =
                |main, side, back| sum(&[(main, 1.0 / total), (2, other), (side, other), (back, other)]);
            vec![side(0, 4, 6), side(1, 5, 7)]
        }
        (given, _) => {
            let all: Vec<_> = (0..given).map(|channel| (channel, 1.0 / given as f32)).collect();
            vec![sum(&all); count]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_without_a_common_divisor_keep_a_tone() {
        let tone = |rate: f64, length: usize| -> Vec<f32> {
            (0..length).map(|at| (440.0 * 2.0 * PI * at as f64 / rate).sin() as f32).collect()
        };
        for from in [44_101, 7_919, 192_001] {
            let resampled =
                resampled(&tone(f64::from(from), from as usize / 10), from, 16_000).expect("works");
            let want = tone(16_000.0, resampled.len());
            assert!((1598..=1601).contains(&resampled.len()), "{from}: {}", resampled.len());
            for at in 20..1580 {
                assert!((resampled[at] - want[at]).abs() < 3e-3, "{from} Hz: {at}");
            }
        }
        assert!(resampled(&[], 48_000, 16_000).expect("works").is_empty());
        assert!(resampled(&[0.0], 0, 16_000).expect_err("no rate").contains("0 Hz"));
        assert!(resampled(&[0.0], 1_000_000, 16_000).expect_err("too high").contains("1000000 Hz"));
    }

    #[test]
    fn channels_are_repeated_or_mixed() {
        let channel = |value: f32| vec![value; 3];
        let mixed = |channels: &[Vec<f32>]| with_channels(channels, 2).expect("works");
        assert_eq!(mixed(&[channel(0.5)]), [channel(0.5), channel(0.5)]);
        assert_eq!(mixed(&[channel(0.1), channel(0.2)]), [channel(0.1), channel(0.2)]);
        assert_eq!(mixed(&[channel(0.0), channel(0.5), channel(1.0)]), [channel(0.5), channel(0.5)]);
        // Only the left side of 5.1 and 7.1 sounds.
        for (count, weight) in [(6, 1.707 / 2.414), (8, 2.414 / 3.121)] {
            let side = |at: usize| channel(if [0, 4, 6].contains(&at) { 1.0 } else { 0.0 });
            let result = mixed(&(0..count).map(side).collect::<Vec<_>>());
            assert!((result[0][2] - weight).abs() < 1e-6 && result[1] == channel(0.0), "{result:?}");
        }
        assert!(with_channels(&[], 2).is_err());
        assert!(with_channels(&[vec![0.0], vec![]], 2).expect_err("differ").contains("lengths"));
    }
}
