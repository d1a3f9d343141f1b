//! Levels of memory pressure and the reactions to them.

use std::time::Duration;

/// A reading of the machine's memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReading {
    /// Total memory.
    pub total: u64,
    /// Memory that can still be allocated.
    pub available: u64,
}

/// Level of memory pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum MemoryPressure {
    /// No pressure.
    #[default]
    None,
    /// A warning is logged.
    Early,
    /// Fewer sequences run.
    High,
    /// The KV cache shrinks as well.
    Critical,
    /// Idle models are unloaded as well.
    Extreme,
}

/// Configuration of a [`MemoryPressureMonitor`]: the shares of memory in use at which each level begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryPressureConfig {
    /// Start of [`MemoryPressure::Early`] (default: 0.85).
    pub early: f64,
    /// Start of [`MemoryPressure::High`] (default: 0.90).
    pub high: f64,
    /// Start of [`MemoryPressure::Critical`] (default: 0.94).
    pub critical: f64,
    /// Start of [`MemoryPressure::Extreme`] (default: 0.97).
    pub extreme: f64,
    /// A level ends this far below its start (default: 0.03).
    pub hysteresis: f64,
    /// Interval between two readings (default: 1 s).
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

/// Reaction that a [`MemoryPressureMonitor`] requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryAction {
    /// Log a warning.
    Warn,
    /// Run fewer sequences.
    FewerSequences,
    /// Evict cached prefixes and shrink the cache to the blocks in use.
    ShrinkCache,
    /// Unload idle models.
    UnloadIdle,
    /// The pressure is over.
    Relieved,
}

/// Number of requested actions by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PressureCounts {
    /// [`MemoryAction::Warn`].
    pub warnings: u64,
    /// [`MemoryAction::FewerSequences`].
    pub fewer_sequences: u64,
    /// [`MemoryAction::ShrinkCache`].
    pub cache_shrinks: u64,
    /// [`MemoryAction::UnloadIdle`].
    pub unloads: u64,
}

/// Monitors the machine's memory. Pressure rises one level per reading: warning, fewer sequences, smaller cache, unloading of idle
/// models. While readings stay at a level (other than the warning), its action is requested again with each reading. A level
/// ends with hysteresis.
#[derive(Debug, Clone, Default)]
pub struct MemoryPressureMonitor {
    config: MemoryPressureConfig,
    pressure: MemoryPressure,
    counts: PressureCounts,
    highest_used: u64,
}

impl MemoryPressureMonitor {
    /// A monitor without readings.
    #[must_use]
    pub fn new(config: MemoryPressureConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// The current level.
    #[must_use]
    pub fn pressure(&self) -> MemoryPressure {
        self.pressure
    }

    /// Number of requested actions by kind.
    #[must_use]
    pub fn counts(&self) -> PressureCounts {
        self.counts
    }

    /// Highest reading of memory in use, bytes.
    #[must_use]
    pub fn highest_used(&self) -> u64 {
        self.highest_used
    }

    /// Records a reading and returns the action to take. The level rises by at most one per reading, so that the cheaper action is
    /// always tried first.
    pub fn record(&mut self, reading: MemoryReading) -> Option<MemoryAction> {
        let used = reading.total.saturating_sub(reading.available);
        self.highest_used = self.highest_used.max(used);
        let share = if reading.total == 0 { 0.0 } else { used as f64 / reading.total as f64 };
        let reached = self.level(share);
        let before = self.pressure;
        if reached > before {
            self.pressure = next(before);
        } else {
            // Lower only when the share is below the start of the level by the hysteresis.
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
            // Within the hysteresis the level remains, without further actions.
            level if self.level(share) < level => None,
            MemoryPressure::High => {
                self.counts.fewer_sequences += 1;
                Some(MemoryAction::FewerSequences)
            }
            MemoryPressure::Critical => {
                self.counts.cache_shrinks += 1;
                Some(MemoryAction::ShrinkCache)
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
    fn levels_rise_in_order_even_when_memory_jumps() {
        let mut monitor = MemoryPressureMonitor::default();
        let actions: Vec<_> = (0..5).map(|_| monitor.record(used(99))).collect();
        assert_eq!(
            actions,
            [
                Some(MemoryAction::Warn),
                Some(MemoryAction::FewerSequences),
                Some(MemoryAction::ShrinkCache),
                Some(MemoryAction::UnloadIdle),
                Some(MemoryAction::UnloadIdle),
            ]
        );
        assert_eq!(monitor.counts().unloads, 2);
        assert_eq!(monitor.highest_used(), 990);
    }

    #[test]
    fn it_stays_at_the_level_and_leaves_it_with_hysteresis() {
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
