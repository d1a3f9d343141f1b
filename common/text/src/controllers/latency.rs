//! How prompts are cut, and how tokens are handed on.

use std::collections::VecDeque;
use std::time::Duration;

/// Steps without prompts that the median is taken over.
const HISTORY: usize = 31;
/// How much a new measurement counts.
const WEIGHT: f64 = 0.3;
/// How much it counts when prompts turn out to cost more than was thought: running streams are waiting for it.
const WEIGHT_UP: f64 = 0.8;
/// A token of a small chunk beside running streams costs so many times one of a large chunk alone, until it was measured.
const BESIDE: f64 = 2.0;
/// Tokens of prompts beside running streams while nothing was measured.
const UNKNOWN_CHUNK: usize = 32;

/// Settings of a [`LowLatencyOptimizer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyConfig {
    /// Most tokens of prompts in a step.
    pub prompt_chunk: usize,
    /// Fewest, so that prompts always get on.
    pub least_chunk: usize,
    /// Most that a step may take while streams are being decoded, in medians of the steps without prompts. Below the 3 that is
    /// promised, since the same step takes more or less long from one time to the next.
    pub slowdown: f64,
    /// A prompt of at most so many tokens that are not in the cache is a short one.
    pub short_prompt: usize,
    /// A step may take so long for short prompts, whatever the median: somebody waits for the first word.
    pub short_step: Duration,
}

impl Default for LatencyConfig {
    fn default() -> Self {
        Self {
            prompt_chunk: 512,
            least_chunk: 4,
            slowdown: 2.0,
            short_prompt: 256,
            short_step: Duration::from_millis(150),
        }
    }
}

/// What the time goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeliveryMode {
    /// Computing takes by far the most: every token is handed on at once.
    ComputeFocused,
    /// Neither: every token is handed on at once, readers that are behind get several together.
    #[default]
    Balanced,
    /// Delivering takes longer than computing: what has gathered is handed on together.
    TransferFocused,
}

impl DeliveryMode {
    /// As it is named in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ComputeFocused => "compute_focused",
            Self::Balanced => "balanced",
            Self::TransferFocused => "transfer_focused",
        }
    }
}

/// What a [`LowLatencyOptimizer`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LowLatencyStatistics {
    /// Prompts that were cut into several chunks or whose chunk was cut down for running streams.
    pub cut_chunks: u64,
    /// Steps that began while tokens of the step before were still being delivered.
    pub prefetched_steps: u64,
    /// Changes of the mode.
    pub mode_changes: u64,
    /// Seconds of delivery a second of computing, lately.
    pub delivery_ratio: f64,
}

/// Decides how many tokens of prompts a step takes, so that running streams hardly notice, and how tokens are handed on.
///
/// A step with prompts takes about `median + cost · tokens`, where the median is that of steps without prompts; the chunk is
/// the largest that keeps this below `slowdown` medians. Both are measured as it runs.
#[derive(Debug, Clone)]
pub struct LowLatencyOptimizer {
    config: LatencyConfig,
    plain_steps: VecDeque<Duration>,
    median: Option<f64>,
    /// Seconds a token of prompts beside running streams.
    prompt_cost: Option<f64>,
    /// That was measured, not derived from prompts alone.
    cost_measured: bool,
    compute: f64,
    delivery: f64,
    mode: DeliveryMode,
    statistics: LowLatencyStatistics,
}

impl LowLatencyOptimizer {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(config: LatencyConfig) -> Self {
        let least_chunk = config.least_chunk.max(1);
        Self {
            config: LatencyConfig {
                least_chunk,
                prompt_chunk: config.prompt_chunk.max(least_chunk),
                ..config
            },
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

    /// Tokens of prompts that the next step may take beside `decoding` running streams.
    #[must_use]
    pub fn prompt_budget(&self, decoding: usize) -> usize {
        let LatencyConfig { prompt_chunk, least_chunk, slowdown, .. } = self.config;
        if decoding == 0 {
            return prompt_chunk;
        }
        match (self.median, self.prompt_cost) {
            (Some(median), Some(cost)) if cost > 0.0 => {
                let tokens = (slowdown - 1.0).max(0.0) * median / cost;
                (tokens as usize).clamp(least_chunk, prompt_chunk)
            }
            _ => UNKNOWN_CHUNK.clamp(least_chunk, prompt_chunk),
        }
    }

    /// Tokens of short prompts that the next step may take beside running streams; never less than of long ones.
    #[must_use]
    pub fn short_budget(&self) -> usize {
        let LatencyConfig { prompt_chunk, least_chunk, short_step, .. } = self.config;
        let tokens = match (self.median, self.prompt_cost) {
            (Some(median), Some(cost)) if cost > 0.0 => {
                ((short_step.as_secs_f64() - median).max(0.0) / cost) as usize
            }
            _ => UNKNOWN_CHUNK,
        };
        tokens.clamp(least_chunk, prompt_chunk).max(self.prompt_budget(1))
    }

    /// Most tokens of a short prompt.
    #[must_use]
    pub fn short_prompt(&self) -> usize {
        self.config.short_prompt
    }

    /// Takes in a step: how long it took, with how many tokens of prompts and how many decoded streams.
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
                    self.learn_cost(BESIDE * seconds / tokens as f64);
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

    /// Takes in that a step began while tokens of the step before were still being delivered.
    pub fn record_prefetch(&mut self) {
        self.statistics.prefetched_steps += 1;
    }

    /// Takes in how long handing on the tokens of a step took.
    pub fn record_delivery(&mut self, took: Duration) {
        self.delivery += WEIGHT * (took.as_secs_f64() - self.delivery);
        let ratio = if self.compute > 0.0 { self.delivery / self.compute } else { 0.0 };
        self.statistics.delivery_ratio = ratio;
        let mode = match ratio {
            ratio if ratio > 1.0 => DeliveryMode::TransferFocused,
            ratio if ratio < 0.1 => DeliveryMode::ComputeFocused,
            // Between the modes there is room, so that it does not change with every step.
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

    /// Takes in that a prompt did not fit into one chunk.
    pub fn record_cut(&mut self) {
        self.statistics.cut_chunks += 1;
    }

    /// What the time goes to, lately.
    #[must_use]
    pub fn mode(&self) -> DeliveryMode {
        self.mode
    }

    /// What it has done.
    #[must_use]
    pub fn statistics(&self) -> LowLatencyStatistics {
        self.statistics
    }

    fn learn_cost(&mut self, measured: f64) {
        let cost = self.prompt_cost.unwrap_or(measured);
        // One odd step must not change the chunk beyond all measure.
        let measured = if cost > 0.0 { measured.clamp(cost / 4.0, cost * 4.0) } else { measured };
        let weight = if measured > cost { WEIGHT_UP } else { WEIGHT };
        self.prompt_cost = Some(cost + weight * (measured - cost));
    }
}

/// What kind of client reads a stream: how many tokens it may get in one message when it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClientProfile {
    /// Programs and unknown clients.
    #[default]
    Program,
    /// Chrome, Edge and relatives.
    Chromium,
    /// Firefox.
    Firefox,
    /// Safari, whose streams like larger pieces.
    Safari,
    /// Telephones: fewer, larger messages keep the radio asleep.
    Mobile,
}

impl ClientProfile {
    /// By the `User-Agent` header.
    #[must_use]
    pub fn of_user_agent(agent: &str) -> Self {
        let has = |word: &str| agent.contains(word);
        if has("Mobile") || has("Android") || has("iPhone") || has("iPad") {
            Self::Mobile
        } else if has("Firefox/") {
            Self::Firefox
        } else if has("Chrome/") || has("Edg/") || has("Chromium/") {
            Self::Chromium
        } else if has("Safari/") {
            Self::Safari
        } else {
            Self::Program
        }
    }

    /// Most tokens in one message when the client is behind.
    #[must_use]
    pub fn most_together(self) -> usize {
        match self {
            Self::Program | Self::Chromium | Self::Firefox => 16,
            Self::Safari => 32,
            Self::Mobile => 64,
        }
    }
}

/// Decides for one reader how many of the tokens that are ready go into its next message: one each while it keeps up, more
/// the further it is behind, up to its profile's most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReaderPace {
    profile: ClientProfile,
    behind: usize,
    coalesced: u64,
}

impl ReaderPace {
    /// A reader that keeps up.
    #[must_use]
    pub fn new(profile: ClientProfile) -> Self {
        Self { profile, behind: 0, coalesced: 0 }
    }

    /// Takes in how many tokens were ready (at least 1) when the reader took its next message, and says how many it gets. One
    /// late look is no slowness: only when tokens had gathered twice in a row are they put together.
    pub fn take(&mut self, ready: usize) -> usize {
        self.behind = if ready > 1 { self.behind + 1 } else { 0 };
        let together = if self.behind >= 2 { ready.min(self.profile.most_together()) } else { 1 };
        self.coalesced += together.saturating_sub(1) as u64;
        together
    }

    /// Tokens that shared a message with one before.
    #[must_use]
    pub fn coalesced(&self) -> u64 {
        self.coalesced
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
        // 130 ms are left beside the median of 20, at 1 ms a token.
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
        // 20 ms at twice 1 ms a token.
        assert_eq!(optimizer.prompt_budget(4), 10);
        // Small chunks turn out to cost three times as much a token.
        for _ in 0..20 {
            let tokens = optimizer.prompt_budget(4);
            optimizer.record_step(20 * MS + 3 * MS * u32::try_from(tokens).unwrap(), tokens, 4);
        }
        assert_eq!(optimizer.prompt_budget(4), 6);
        // And less again when they get cheaper, a little at a time.
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
    fn the_mode_follows_the_ratio_and_does_not_flutter() {
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

    #[test]
    fn only_readers_that_stay_behind_get_several_tokens_together() {
        let mut pace = ReaderPace::new(ClientProfile::Chromium);
        assert_eq!([pace.take(1), pace.take(3), pace.take(1), pace.take(2)], [1; 4]);
        assert_eq!([pace.take(5), pace.take(200)], [5, 16]);
        assert_eq!(pace.take(1), 1);
        assert_eq!(pace.coalesced(), 4 + 15);
    }

    #[test]
    fn profiles_by_user_agent() {
        let of = ClientProfile::of_user_agent;
        assert_eq!(
            of("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"),
            ClientProfile::Chromium
        );
        assert_eq!(
            of("Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/18 Safari/605.1.15"),
            ClientProfile::Safari
        );
        assert_eq!(of("Mozilla/5.0 (iPhone) Version/18 Mobile/15E148 Safari/604.1"), ClientProfile::Mobile);
        assert_eq!(of("Mozilla/5.0 Gecko/20100101 Firefox/140.0"), ClientProfile::Firefox);
        assert_eq!(of("curl/8"), ClientProfile::Program);
    }
}
