//! Histogram of durations.

use std::time::Duration;

/// Upper bound of the first bucket, seconds.
const FIRST: f64 = 1e-5;
/// Ratio of the upper bounds of consecutive buckets.
const GROWTH: f64 = 1.04;
/// Number of buckets; they cover up to 4,000 s.
const BUCKETS: usize = 506;

/// Histogram of durations with an exact mean, and percentiles accurate to 2 %.
#[derive(Debug, Clone, Default)]
pub struct LatencyHistogram {
    count: u64,
    sum: Duration,
    buckets: Vec<u32>,
}

impl LatencyHistogram {
    /// Adds a duration.
    pub fn record(&mut self, latency: Duration) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS];
        }
        let steps = (latency.as_secs_f64() / FIRST).max(1.0).ln() / GROWTH.ln();
        let bucket = (steps.ceil() as usize).min(BUCKETS - 1);
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
        self.count += 1;
        self.sum += latency;
    }

    /// Number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean; zero when empty.
    #[must_use]
    pub fn mean(&self) -> Duration {
        if self.count == 0 { Duration::ZERO } else { self.sum.div_f64(self.count as f64) }
    }

    /// The duration that a `share` (0 to 1) of the durations does not exceed; zero when empty.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Duration {
        let target = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= target {
                // The middle of the bucket.
                return Duration::from_secs_f64(FIRST * GROWTH.powf(bucket as f64 - 0.5));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_is_exact_and_percentiles_are_close() {
        let mut latencies = LatencyHistogram::default();
        for ms in 1..=1000_u64 {
            latencies.record(Duration::from_millis(ms));
        }
        assert_eq!(latencies.mean(), Duration::from_micros(500_500));
        for (share, exact) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99)] {
            let found = latencies.percentile(share).as_secs_f64();
            assert!((found / exact - 1.0).abs() < 0.021, "{share}: {found}");
        }
    }

    #[test]
    fn an_empty_histogram_gives_zero_and_extremes_are_clamped() {
        let mut latencies = LatencyHistogram::default();
        assert_eq!((latencies.mean(), latencies.percentile(0.95)), (Duration::ZERO, Duration::ZERO));
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(1_000_000));
        assert!(latencies.percentile(1.0) > Duration::from_secs(3_500));
    }
}
