//! Sizes of prompt chunks, and delivery of tokens.

use std::collections::VecDeque;
use std::time::Duration;

/// Number of steps without prompts over which the median is taken.
const HISTORY: usize = 31;
/// Weight of a new measurement in moving averages.
const WEIGHT: f64 = 0.3;
/// Weight of a new measurement when prompts cost more than expected: faster, because running streams are delayed.
const WEIGHT_UP: f64 = 0.8;
/// Assumed cost per token of a small chunk in a step with decoding streams, relative to a large chunk alone, until measured.
const MIXED_COST_FACTOR: f64 = 2.0;
/// Chunk size in a step with decoding streams before anything is measured, tokens.
const INITIAL_CHUNK: usize = 32;

/// Configuration of a [`LowLatencyOptimizer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyConfig {
    /// Maximum number of prompt tokens in a step (default: 512).
    pub prompt_chunk: usize,
    /// Minimum number of prompt tokens in a step, so that prompts always make progress (default: 4).
    pub min_chunk: usize,
    /// Maximum duration of a step while streams are decoded, as a multiple of the median step without prompts (default: 2). Lower
    /// than the promised factor of 3, because step durations vary.
    pub slowdown: f64,
    /// A prompt with at most this many uncached tokens is short (default: 256).
    pub short_prompt: usize,
    /// Maximum duration of a step with short prompts, whatever the median, for a fast first token (default: 150 ms).
    pub short_step: Duration,
}

impl Default for LatencyConfig {
    fn default() -> Self {
        Self {
            prompt_chunk: 512,
            min_chunk: 4,
            slowdown: 2.0,
            short_prompt: 256,
            short_step: Duration::from_millis(150),
        }
    }
}

/// How tokens are delivered, by the ratio of delivery time to computing time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeliveryMode {
    /// Computing dominates: every token is delivered at once.
    ComputeFocused,
    /// Neither dominates: every token is delivered at once; readers that are behind get several together.
    #[default]
    Balanced,
    /// Delivery takes longer than computing: pending tokens are delivered together.
    TransferFocused,
}

impl DeliveryMode {
    /// Name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ComputeFocused => "compute_focused",
            Self::Balanced => "balanced",
            Self::TransferFocused => "transfer_focused",
        }
    }
}

/// Statistics of a [`LowLatencyOptimizer`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LowLatencyStatistics {
    /// Number of times a prompt was split because it did not fit into one chunk.
    pub split_prompts: u64,
    /// Steps that began while tokens of the previous step were still being delivered.
    pub prefetched_steps: u64,
    /// Changes of the delivery mode.
    pub mode_changes: u64,
    /// Recent delivery time per computing time.
    pub delivery_ratio: f64,
}

/// Chooses the size of prompt chunks, so that prompts delay running streams only a little, and the delivery mode.
///
/// A step with prompts takes about `median + cost · tokens`, where `median` is the median duration of steps without prompts. The
/// chunk is the largest that keeps the step below `slowdown · median`. Both values are measured continuously.
#[derive(Debug, Clone)]
pub struct LowLatencyOptimizer {
    config: LatencyConfig,
    plain_steps: VecDeque<Duration>,
    median: Option<f64>,
    /// Seconds per prompt token in a step with decoding streams.
    prompt_cost: Option<f64>,
    /// Whether `prompt_cost` was measured in such steps, instead of derived from steps with prompts only.
    cost_measured: bool,
    compute: f64,
    delivery: f64,
    mode: DeliveryMode,
    statistics: LowLatencyStatistics,
}

impl LowLatencyOptimizer {
    /// An optimizer without measurements.
    #[must_use]
    pub fn new(config: LatencyConfig) -> Self {
        let min_chunk = config.min_chunk.max(1);
        Self {
            config: LatencyConfig { min_chunk, prompt_chunk: config.prompt_chunk.max(min_chunk), ..config },
            plain_steps: VecDeque::new(),
            median: None,
            prompt_cost: None,
            cost_measured: false,
            compute: 0.0,
            delivery: 0.0,
            mode: DeliveryMode::default(),
            statistics: LowLatencyStatistics::default(),
        }
    }

    /// Maximum number of prompt tokens in the next step, which decodes `decoding` streams.
    #[must_use]
    pub fn prompt_budget(&self, decoding: usize) -> usize {
        let LatencyConfig { prompt_chunk, min_chunk, slowdown, .. } = self.config;
        if decoding == 0 {
            return prompt_chunk;
        }
        match (self.median, self.prompt_cost) {
            (Some(median), Some(cost)) if cost > 0.0 => {
                let tokens = (slowdown - 1.0).max(0.0) * median / cost;
                (tokens as usize).clamp(min_chunk, prompt_chunk)
            }
            _ => INITIAL_CHUNK.clamp(min_chunk, prompt_chunk),
        }
    }

    /// Maximum number of tokens of short prompts in a step with decoding streams; at least the budget of long prompts.
    #[must_use]
    pub fn short_budget(&self) -> usize {
        let LatencyConfig { prompt_chunk, min_chunk, short_step, .. } = self.config;
        let tokens = match (self.median, self.prompt_cost) {
            (Some(median), Some(cost)) if cost > 0.0 => {
                ((short_step.as_secs_f64() - median).max(0.0) / cost) as usize
            }
            _ => INITIAL_CHUNK,
        };
        tokens.clamp(min_chunk, prompt_chunk).max(self.prompt_budget(1))
    }

    /// Maximum number of tokens of a short prompt.
    #[must_use]
    pub fn short_prompt(&self) -> usize {
        self.config.short_prompt
    }

    /// Records the duration of a step with this number of prompt tokens and decoded streams.
    pub fn record_step(&mut self, took: Duration, prompt_tokens: usize, decoded: usize) {
        let seconds = took.as_secs_f64();
        self.compute += WEIGHT * (seconds - self.compute);
        match (prompt_tokens, decoded) {
            (0, 0) => {}
            (0, _) => {
                if self.plain_steps.len() == HISTORY {
                    self.plain_steps.pop_front();
                }
                self.plain_steps.push_back(took);
                let mut sorted: Vec<_> = self.plain_steps.iter().copied().collect();
                sorted.sort_unstable();
                self.median = Some(sorted[sorted.len() / 2].as_secs_f64());
            }
            (tokens, 0) => {
                if !self.cost_measured {
                    self.learn_cost(MIXED_COST_FACTOR * seconds / tokens as f64);
                }
            }
            (tokens, _) => {
                if let Some(median) = self.median {
                    self.learn_cost((seconds - median).max(0.0) / tokens as f64);
                    self.cost_measured = true;
                }
            }
        }
    }

    /// Records a step that began while tokens of the previous step were still being delivered.
    pub fn record_prefetch(&mut self) {
        self.statistics.prefetched_steps += 1;
    }

    /// Records how long the delivery of a step's tokens took.
    pub fn record_delivery(&mut self, took: Duration) {
        self.delivery += WEIGHT * (took.as_secs_f64() - self.delivery);
        let ratio = if self.compute > 0.0 { self.delivery / self.compute } else { 0.0 };
        self.statistics.delivery_ratio = ratio;
        let mode = match ratio {
            ratio if ratio > 1.0 => DeliveryMode::TransferFocused,
            ratio if ratio < 0.1 => DeliveryMode::ComputeFocused,
            // Hysteresis between the modes, so that the mode does not change with every step.
            ratio if self.mode == DeliveryMode::TransferFocused && ratio > 0.7 => {
                DeliveryMode::TransferFocused
            }
            ratio if self.mode == DeliveryMode::ComputeFocused && ratio < 0.15 => {
                DeliveryMode::ComputeFocused
            }
            _ => DeliveryMode::Balanced,
        };
        if mode != self.mode {
            self.mode = mode;
            self.statistics.mode_changes += 1;
        }
    }

    /// Records that a prompt did not fit into one chunk.
    pub fn record_split(&mut self) {
        self.statistics.split_prompts += 1;
    }

    /// The current delivery mode.
    #[must_use]
    pub fn mode(&self) -> DeliveryMode {
        self.mode
    }

    /// Statistics since the start.
    #[must_use]
    pub fn statistics(&self) -> LowLatencyStatistics {
        self.statistics
    }

    fn learn_cost(&mut self, measured: f64) {
        let cost = self.prompt_cost.unwrap_or(measured);
        // Bounds the influence of a single outlier.
        let measured = if cost > 0.0 { measured.clamp(cost / 4.0, cost * 4.0) } else { measured };
        let weight = if measured > cost { WEIGHT_UP } else { WEIGHT };
        self.prompt_cost = Some(cost + weight * (measured - cost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_short_prompt_may_fill_a_step_up_to_its_time() {
        let mut optimizer = LowLatencyOptimizer::new(LatencyConfig::default());
        for _ in 0..9 {
            optimizer.record_step(20 * MS, 0, 4);
        }
        optimizer.record_step(40 * MS, 20, 4);
        // 130 ms remain beside the median of 20 ms, at 1 ms per token.
        assert_eq!((optimizer.short_budget(), optimizer.prompt_budget(4)), (130, 20));
        for _ in 0..64 {
            optimizer.record_step(400 * MS, 0, 4);
        }
        assert_eq!(optimizer.short_budget(), optimizer.prompt_budget(4), "never less than a long one");
    }

    #[test]
    fn a_prompt_alone_takes_the_whole_chunk() {
        assert_eq!(LowLatencyOptimizer::new(LatencyConfig::default()).prompt_budget(0), 512);
    }

    #[test]
    fn the_chunk_beside_running_streams_follows_the_measured_costs() {
        let mut optimizer = LowLatencyOptimizer::new(LatencyConfig::default());
        assert_eq!(optimizer.prompt_budget(4), 32);
        for _ in 0..9 {
            optimizer.record_step(20 * MS, 0, 4);
        }
        optimizer.record_step(512 * MS, 512, 0);
        // 20 ms at twice 1 ms per token.
        assert_eq!(optimizer.prompt_budget(4), 10);
        // Small chunks cost three times as much per token.
        for _ in 0..20 {
            let tokens = optimizer.prompt_budget(4);
            optimizer.record_step(20 * MS + 3 * MS * u32::try_from(tokens).unwrap(), tokens, 4);
        }
        assert_eq!(optimizer.prompt_budget(4), 6);
        // The estimate decreases slowly when they become cheaper.
        for _ in 0..40 {
            let tokens = optimizer.prompt_budget(4);
            optimizer.record_step(20 * MS + MS * u32::try_from(tokens).unwrap(), tokens, 4);
        }
        assert!((19..=20).contains(&optimizer.prompt_budget(4)));
    }

    #[test]
    fn steps_beside_a_long_prompt_stay_under_three_medians_whatever_the_machine() {
        for (decode_ms, cost_us) in [(2.0, 40.0), (10.0, 3000.0), (50.0, 100.0), (5.0, 1.0)] {
            let mut optimizer = LowLatencyOptimizer::new(LatencyConfig::default());
            for _ in 0..10 {
                optimizer.record_step(Duration::from_secs_f64(decode_ms / 1e3), 0, 4);
            }
            optimizer.record_step(Duration::from_secs_f64(512.0 * cost_us / 1e6), 512, 0);
            for _ in 0..50 {
                let tokens = optimizer.prompt_budget(4);
                assert!(tokens >= 4);
                let took = decode_ms / 1e3 + tokens as f64 * cost_us / 1e6;
                assert!(took <= 3.0 * decode_ms / 1e3 || tokens == 4, "{tokens} tokens took {took} s");
                optimizer.record_step(Duration::from_secs_f64(took), tokens, 4);
            }
        }
    }

    #[test]
    fn the_mode_follows_the_ratio_with_hysteresis() {
        let mut optimizer = LowLatencyOptimizer::new(LatencyConfig::default());
        for _ in 0..50 {
            optimizer.record_step(10 * MS, 0, 1);
            optimizer.record_delivery(MS / 10);
        }
        assert_eq!(optimizer.mode(), DeliveryMode::ComputeFocused);
        for _ in 0..50 {
            optimizer.record_delivery(20 * MS);
            optimizer.record_prefetch();
        }
        assert_eq!(optimizer.mode(), DeliveryMode::TransferFocused);
        let changes = optimizer.statistics().mode_changes;
        for _ in 0..50 {
            optimizer.record_delivery(8 * MS);
        }
        assert_eq!(
            (optimizer.mode(), optimizer.statistics().mode_changes),
            (DeliveryMode::TransferFocused, changes)
        );
        assert_eq!(optimizer.statistics().prefetched_steps, 50);
    }
}
