//! Control of the number of sequences that run at the same time.

use std::collections::VecDeque;
use std::time::Duration;

const GIB: u64 = 1 << 30;
/// Minimum number of measured steps before the size changes.
const MIN_STEPS: usize = 3;
/// Network stability below which the size is halved.
const STABLE: f64 = 0.7;

/// Configuration of an [`AdaptiveBatchSizeController`].
#[derive(Debug, Clone, PartialEq)]
pub struct BatchSizeConfig {
    /// Minimum number of sequences, at least 1 (default: 1).
    pub min: usize,
    /// Maximum number of sequences (default: 16).
    pub max: usize,
    /// Memory of the device in bytes, which sets the initial size: 8 above 8 GiB, 4 above 4 GiB, otherwise `min`. `None`: the
    /// engine uses the machine's memory; if that is unknown, the initial size is 8.
    pub device_memory: Option<u64>,
    /// Mean step duration below which the size grows (default: 100 ms).
    pub target: Duration,
    /// Mean step duration above which the size shrinks (default: 200 ms).
    pub maximum: Duration,
    /// Number of steps over which the mean is taken (default: 10).
    pub history: usize,
}

impl Default for BatchSizeConfig {
    fn default() -> Self {
        Self {
            min: 1,
            max: 16,
            device_memory: None,
            target: Duration::from_millis(100),
            maximum: Duration::from_millis(200),
            history: 10,
        }
    }
}

/// A decision of an [`AdaptiveBatchSizeController`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchDecision {
    /// One more sequence: steps are faster than the target.
    Grow,
    /// A quarter fewer sequences: steps are slower than the maximum.
    Shrink,
    /// Half as many sequences: readers' networks are unstable.
    HalveForNetwork,
    /// Half as many sequences: memory is short.
    HalveForMemory,
}

impl BatchDecision {
    /// All decisions, in the order of [`BatchDecisions`].
    pub const ALL: [Self; 4] = [Self::Grow, Self::Shrink, Self::HalveForNetwork, Self::HalveForMemory];

    /// Name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grow => "grow",
            Self::Shrink => "shrink",
            Self::HalveForNetwork => "halve_for_network",
            Self::HalveForMemory => "halve_for_memory",
        }
    }
}

/// Number of decisions by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchDecisions {
    /// [`BatchDecision::Grow`].
    pub grown: u64,
    /// [`BatchDecision::Shrink`].
    pub shrunk: u64,
    /// [`BatchDecision::HalveForNetwork`].
    pub halved_for_network: u64,
    /// [`BatchDecision::HalveForMemory`].
    pub halved_for_memory: u64,
}

/// Controls how many sequences may run: grows by one while steps take less than the target, and shrinks faster (by a quarter
/// when steps are too slow, by half under memory pressure or when readers' networks are unstable). Each decision restarts the
/// measurement.
///
/// On a machine where even a single sequence takes longer than the target, fewer sequences would not make steps fast enough. The
/// target is therefore at least 1.5 times, and the maximum at least 2 times, the duration of a step with one sequence.
///
/// ```
/// use std::time::Duration;
/// use videosdgx_text::controllers::{AdaptiveBatchSizeController, BatchDecision, BatchSizeConfig};
///
/// let mut controller = AdaptiveBatchSizeController::new(BatchSizeConfig::default());
/// let size = controller.size();
/// let decisions = [0; 3].map(|_| controller.record_step(Duration::from_millis(40), size));
/// assert_eq!(decisions, [None, None, Some(BatchDecision::Grow)]);
/// assert_eq!(controller.size(), size + 1);
/// ```
#[derive(Debug, Clone)]
pub struct AdaptiveBatchSizeController {
    config: BatchSizeConfig,
    size: usize,
    steps: VecDeque<Duration>,
    /// Moving average of steps with one sequence.
    single: Option<Duration>,
    decisions: BatchDecisions,
    growth_paused: bool,
}

impl AdaptiveBatchSizeController {
    /// A controller whose initial size depends on the device's memory.
    #[must_use]
    pub fn new(config: BatchSizeConfig) -> Self {
        let config =
            BatchSizeConfig { min: config.min.max(1), max: config.max.max(config.min).max(1), ..config };
        let first = match config.device_memory {
            None => 8,
            Some(bytes) if bytes > 8 * GIB => 8,
            Some(bytes) if bytes > 4 * GIB => 4,
            Some(_) => config.min,
        };
        let size = first.clamp(config.min, config.max);
        Self {
            config,
            size,
            steps: VecDeque::new(),
            decisions: BatchDecisions::default(),
            single: None,
            growth_paused: false,
        }
    }

    /// Number of sequences that may run.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Number of decisions by kind.
    #[must_use]
    pub fn decisions(&self) -> BatchDecisions {
        self.decisions
    }

    /// Mean duration of the steps since the last decision, at most `history` of them.
    #[must_use]
    pub fn mean_step(&self) -> Option<Duration> {
        let count = u32::try_from(self.steps.len()).ok().filter(|count| *count > 0)?;
        Some(self.steps.iter().sum::<Duration>() / count)
    }

    /// Records the duration of a step that decoded `sequences` and computed no prompt. The size grows only when all slots were in
    /// use, and shrinks only when more than one sequence ran.
    pub fn record_step(&mut self, took: Duration, sequences: usize) -> Option<BatchDecision> {
        if sequences == 1 {
            self.single = Some(self.single.map_or(took, |single| (single * 7 + took) / 8));
        }
        if self.steps.len() >= self.config.history.max(MIN_STEPS) {
            self.steps.pop_front();
        }
        self.steps.push_back(took);
        if self.steps.len() < MIN_STEPS {
            return None;
        }
        let mean = self.mean_step()?;
        let single = self.single.unwrap_or_default();
        let target = self.config.target.max(single * 3 / 2);
        let maximum = self.config.maximum.max(single * 2);
        if mean < target && sequences >= self.size && self.size < self.config.max && !self.growth_paused {
            Some(self.decide(BatchDecision::Grow))
        } else if mean > maximum && sequences > 1 && self.size > self.config.min {
            Some(self.decide(BatchDecision::Shrink))
        } else {
            None
        }
    }

    /// Records the stability of the readers' networks: the share of streams that keep up, 0 to 1.
    pub fn record_network(&mut self, stability: f64) -> Option<BatchDecision> {
        (stability < STABLE && self.size > self.config.min)
            .then(|| self.decide(BatchDecision::HalveForNetwork))
    }

    /// Pauses or resumes growth, for times when memory is short.
    pub fn set_growth_paused(&mut self, paused: bool) {
        self.growth_paused = paused;
    }

    /// Halves the size because of memory pressure.
    pub fn relieve_memory(&mut self) -> Option<BatchDecision> {
        (self.size > self.config.min).then(|| self.decide(BatchDecision::HalveForMemory))
    }

    fn decide(&mut self, decision: BatchDecision) -> BatchDecision {
        let (size, count) = match decision {
            BatchDecision::Grow => (self.size + 1, &mut self.decisions.grown),
            BatchDecision::Shrink => (self.size - self.size.div_ceil(4), &mut self.decisions.shrunk),
            BatchDecision::HalveForNetwork => (self.size / 2, &mut self.decisions.halved_for_network),
            BatchDecision::HalveForMemory => (self.size / 2, &mut self.decisions.halved_for_memory),
        };
        *count += 1;
        self.size = size.clamp(self.config.min, self.config.max);
        self.steps.clear();
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(memory: u64) -> AdaptiveBatchSizeController {
        AdaptiveBatchSizeController::new(BatchSizeConfig {
            device_memory: Some(memory),
            ..BatchSizeConfig::default()
        })
    }

    fn fast(controller: &mut AdaptiveBatchSizeController) -> Option<BatchDecision> {
        controller.record_step(Duration::from_millis(50), controller.size())
    }

    #[test]
    fn the_initial_size_depends_on_the_devices_memory() {
        assert_eq!(controller(24 * GIB).size(), 8);
        assert_eq!(controller(6 * GIB).size(), 4);
        assert_eq!(controller(2 * GIB).size(), 1);
    }

    #[test]
    fn it_grows_after_three_fast_steps_up_to_the_maximum() {
        let mut controller = controller(24 * GIB);
        assert_eq!([fast(&mut controller), fast(&mut controller)], [None, None]);
        assert_eq!(fast(&mut controller), Some(BatchDecision::Grow));
        for _ in 0..100 {
            fast(&mut controller);
        }
        assert_eq!(controller.size(), 16);
        assert_eq!(controller.decisions().grown, 8);
    }

    #[test]
    fn it_does_not_grow_while_slots_are_free() {
        let mut controller = controller(24 * GIB);
        for _ in 0..10 {
            assert_eq!(controller.record_step(Duration::from_millis(10), 2), None);
        }
    }

    #[test]
    fn it_shrinks_when_steps_are_too_slow_and_keeps_its_size_between_target_and_maximum() {
        let mut controller = controller(24 * GIB);
        for _ in 0..3 {
            controller.record_step(Duration::from_millis(250), 8);
        }
        assert_eq!(controller.size(), 6);
        for _ in 0..20 {
            assert_eq!(controller.record_step(Duration::from_millis(150), 6), None);
        }
        for _ in 0..60 {
            controller.record_step(Duration::from_millis(900), 6);
        }
        assert_eq!(controller.size(), 1);
    }

    #[test]
    fn a_model_slower_than_the_target_keeps_its_size() {
        let mut controller = controller(24 * GIB);
        // One sequence takes 400 ms, eight take 500 ms: running fewer would gain nothing.
        for _ in 0..10 {
            assert_eq!(controller.record_step(Duration::from_millis(400), 1), None);
        }
        for _ in 0..30 {
            controller.record_step(Duration::from_millis(500), controller.size());
        }
        assert_eq!(controller.size(), 16);
        // More than twice the duration of one sequence is too slow here too.
        for _ in 0..10 {
            controller.record_step(Duration::from_millis(1200), 16);
        }
        assert!(controller.size() < 16);
    }

    #[test]
    fn it_halves_for_unstable_networks_and_memory_but_not_below_the_minimum() {
        let mut controller = controller(24 * GIB);
        assert_eq!(controller.record_network(0.7), None);
        assert_eq!(controller.record_network(0.69), Some(BatchDecision::HalveForNetwork));
        assert_eq!(controller.relieve_memory(), Some(BatchDecision::HalveForMemory));
        assert_eq!(controller.size(), 2);
        controller.relieve_memory();
        assert_eq!(controller.relieve_memory(), None);
        assert_eq!(controller.size(), 1);
    }

    #[test]
    fn it_does_not_grow_while_memory_is_short() {
        let mut controller = controller(24 * GIB);
        controller.set_growth_paused(true);
        for _ in 0..10 {
            assert_eq!(fast(&mut controller), None);
        }
        controller.set_growth_paused(false);
        assert_eq!(fast(&mut controller), Some(BatchDecision::Grow));
    }

    #[test]
    fn history_is_bounded() {
        let mut controller = controller(24 * GIB);
        for _ in 0..20 {
            controller.record_step(Duration::from_millis(150), 8);
        }
        for _ in 0..10 {
            controller.record_step(Duration::from_millis(180), 8);
        }
        assert_eq!(controller.mean_step(), Some(Duration::from_millis(180)));
    }
}
