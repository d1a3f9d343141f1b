//! What to give up when memory gets short, and in which order.

use std::time::Duration;

/// Memory at one moment, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReading {
    /// All there is.
    pub total: u64,
    /// What could still be taken.
    pub available: u64,
}

/// How short memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum MemoryPressure {
    /// Enough.
    #[default]
    None,
    /// Getting short: worth a line in the log.
    Early,
    /// Fewer sequences.
    High,
    /// Shorter caches as well.
    Critical,
    /// Idle models are unloaded as well.
    Extreme,
}

/// Settings of a [`MemoryPressureMonitor`]: the shares of memory in use at which each level begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryPressureConfig {
    /// [`MemoryPressure::Early`].
    pub early: f64,
    /// [`MemoryPressure::High`].
    pub high: f64,
    /// [`MemoryPressure::Critical`].
    pub critical: f64,
    /// [`MemoryPressure::Extreme`].
    pub extreme: f64,
    /// A level ends so far below the share at which it began.
    pub hysteresis: f64,
    /// Time between two looks.
    pub interval: Duration,
}

impl Default for MemoryPressureConfig {
    fn default() -> Self {
        Self {
            early: 0.85,
            high: 0.90,
            critical: 0.94,
            extreme: 0.97,
            hysteresis: 0.03,
            interval: Duration::from_secs(1),
        }
    }
}

/// What a [`MemoryPressureMonitor`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryAction {
    /// Say so.
    Warn,
    /// Run fewer sequences.
    FewerSequences,
    /// Drop cached prefixes and shrink the pool to what is held.
    ShorterCaches,
    /// Unload models that are idle.
    UnloadIdle,
    /// The pressure is over.
    Relieved,
}

/// How often each action was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PressureCounts {
    /// [`MemoryAction::Warn`].
    pub warnings: u64,
    /// [`MemoryAction::FewerSequences`].
    pub fewer_sequences: u64,
    /// [`MemoryAction::ShorterCaches`].
    pub shorter_caches: u64,
    /// [`MemoryAction::UnloadIdle`].
    pub unloads: u64,
}

/// Follows the machine's memory and climbs one step at a time: warning, fewer sequences, shorter caches, unloading of idle
/// models. While readings stay at a level, its action is asked for again with each reading (what was given up may not have
/// been enough); going down needs the hysteresis.
#[derive(Debug, Clone, Default)]
pub struct MemoryPressureMonitor {
    config: MemoryPressureConfig,
    pressure: MemoryPressure,
    counts: PressureCounts,
    highest_used: u64,
}

impl MemoryPressureMonitor {
    /// Without pressure.
    #[must_use]
    pub fn new(config: MemoryPressureConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// The level now.
    #[must_use]
    pub fn pressure(&self) -> MemoryPressure {
        self.pressure
    }

    /// How often it asked for what.
    #[must_use]
    pub fn counts(&self) -> PressureCounts {
        self.counts
    }

    /// Most bytes in use that it has seen.
    #[must_use]
    pub fn highest_used(&self) -> u64 {
        self.highest_used
    }

    /// Takes in a reading. A jump over several levels is climbed one level a reading, so that the cheaper remedy is always
    /// tried first.
    pub fn record(&mut self, reading: MemoryReading) -> Option<MemoryAction> {
        let used = reading.total.saturating_sub(reading.available);
        self.highest_used = self.highest_used.max(used);
        let share = if reading.total == 0 { 0.0 } else { used as f64 / reading.total as f64 };
        let reached = self.level(share);
        let before = self.pressure;
        if reached > before {
            self.pressure = next(before);
        } else {
            // Down only when the share is below where the level began by the hysteresis.
            self.pressure = before.min(self.level(share + self.config.hysteresis));
        }
        match self.pressure {
            MemoryPressure::None => (before != MemoryPressure::None).then_some(MemoryAction::Relieved),
            MemoryPressure::Early => {
                if before >= MemoryPressure::Early {
                    return None;
                }
                self.counts.warnings += 1;
                Some(MemoryAction::Warn)
            }
            // Inside the hysteresis the level lasts, but nothing more is given up.
            level if self.level(share) < level => None,
            MemoryPressure::High => {
                self.counts.fewer_sequences += 1;
                Some(MemoryAction::FewerSequences)
            }
            MemoryPressure::Critical => {
                self.counts.shorter_caches += 1;
                Some(MemoryAction::ShorterCaches)
            }
            MemoryPressure::Extreme => {
                self.counts.unloads += 1;
                Some(MemoryAction::UnloadIdle)
            }
        }
    }

    fn level(&self, share: f64) -> MemoryPressure {
        let MemoryPressureConfig { early, high, critical, extreme, .. } = self.config;
        match share {
            share if share >= extreme => MemoryPressure::Extreme,
            share if share >= critical => MemoryPressure::Critical,
            share if share >= high => MemoryPressure::High,
            share if share >= early => MemoryPressure::Early,
            _ => MemoryPressure::None,
        }
    }
}

fn next(pressure: MemoryPressure) -> MemoryPressure {
    match pressure {
        MemoryPressure::None => MemoryPressure::Early,
        MemoryPressure::Early => MemoryPressure::High,
        MemoryPressure::High => MemoryPressure::Critical,
        MemoryPressure::Critical | MemoryPressure::Extreme => MemoryPressure::Extreme,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(percent: u64) -> MemoryReading {
        MemoryReading { total: 1000, available: 1000 - percent * 10 }
    }

    #[test]
    fn it_climbs_in_order_even_when_memory_jumps() {
        let mut monitor = MemoryPressureMonitor::default();
        let actions: Vec<_> = (0..5).map(|_| monitor.record(used(99))).collect();
        assert_eq!(
            actions,
            [
                Some(MemoryAction::Warn),
                Some(MemoryAction::FewerSequences),
                Some(MemoryAction::ShorterCaches),
                Some(MemoryAction::UnloadIdle),
                Some(MemoryAction::UnloadIdle),
            ]
        );
        assert_eq!(monitor.counts().unloads, 2);
        assert_eq!(monitor.highest_used(), 990);
    }

    #[test]
    fn it_stays_at_the_level_that_is_reached_and_comes_down_with_hysteresis() {
        let mut monitor = MemoryPressureMonitor::default();
        monitor.record(used(91));
        assert_eq!(monitor.record(used(91)), Some(MemoryAction::FewerSequences));
        assert_eq!(monitor.record(used(91)), Some(MemoryAction::FewerSequences));
        assert_eq!(monitor.pressure(), MemoryPressure::High);
        // 89 % + 3 % is still high: no new action, no relief.
        assert_eq!(monitor.record(used(89)), None);
        assert_eq!(monitor.pressure(), MemoryPressure::High);
        assert_eq!(monitor.record(used(83)), None);
        assert_eq!(monitor.pressure(), MemoryPressure::Early);
        assert_eq!(monitor.record(used(50)), Some(MemoryAction::Relieved));
        assert_eq!(monitor.record(used(50)), None);
    }

    #[test]
    fn it_warns_once_while_memory_stays_early() {
        let mut monitor = MemoryPressureMonitor::default();
        assert_eq!(monitor.record(used(86)), Some(MemoryAction::Warn));
        assert_eq!(monitor.record(used(87)), None);
        assert_eq!(monitor.record(used(84)), None);
        assert_eq!(monitor.record(used(86)), None);
        assert_eq!(monitor.counts().warnings, 1);
    }
}
