//! How many sequences run in a step.

use std::collections::VecDeque;
use std::time::Duration;

const GIB: u64 = 1 << 30;
/// Steps that are looked at before the size grows or shrinks.
const LEAST_STEPS: usize = 3;
/// A network at least so stable leaves the size alone.
const STABLE: f64 = 0.7;

/// Settings of an [`AdaptiveBatchSizeController`].
#[derive(Debug, Clone, PartialEq)]
pub struct BatchSizeConfig {
    /// Fewest sequences, at least 1.
    pub min: usize,
    /// Most sequences.
    pub max: usize,
    /// Bytes of the device's memory: over 8 GB it begins with 8, over 4 GB with 4, else with `min`. `None`: the engine
    /// takes the machine's memory; not known at all counts as over 8 GB.
    pub device_memory: Option<u64>,
    /// Below this mean step it grows.
    pub target: Duration,
    /// Above this mean step it shrinks.
    pub maximum: Duration,
    /// Steps that the mean is taken over.
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

/// What an [`AdaptiveBatchSizeController`] decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchDecision {
    /// One more: steps are faster than the target.
    Grow,
    /// A quarter fewer: steps are slower than the maximum.
    Shrink,
    /// Half: readers' networks are unstable.
    HalveForNetwork,
    /// Half: memory is short.
    HalveForMemory,
}

impl BatchDecision {
    /// All, in the order of [`BatchDecisions`].
    pub const ALL: [Self; 4] = [Self::Grow, Self::Shrink, Self::HalveForNetwork, Self::HalveForMemory];

    /// As it is named in metrics.
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

/// How often each decision was taken.
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

/// Chooses how many sequences may run: it grows by one while steps take less than the target, and gives way quickly (a
/// quarter when steps are too slow, half under memory pressure or when readers' networks are unstable). After each decision
/// it measures anew.
///
/// Where one sequence alone takes longer than the target (a large model on a small machine), fewer sequences would make no
/// step quick, only many callers wait: then the target is 1.5 and the maximum 2 times what one alone takes, if that is more.
#[derive(Debug, Clone)]
pub struct AdaptiveBatchSizeController {
    config: BatchSizeConfig,
    size: usize,
    steps: VecDeque<Duration>,
    /// A step with one sequence, lately.
    alone: Option<Duration>,
    decisions: BatchDecisions,
    held: bool,
}

impl AdaptiveBatchSizeController {
    /// Begins by the device's memory.
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
            alone: None,
            held: false,
        }
    }

    /// How many sequences may run now.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// How often it decided what.
    #[must_use]
    pub fn decisions(&self) -> BatchDecisions {
        self.decisions
    }

    /// Mean of the steps since the last decision, at most `history` of them.
    #[must_use]
    pub fn mean_step(&self) -> Option<Duration> {
        let count = u32::try_from(self.steps.len()).ok().filter(|count| *count > 0)?;
        Some(self.steps.iter().sum::<Duration>() / count)
    }

    /// Takes in a step in which `sequences` were decoded (and no prompt was computed). It grows only when all places were
    /// taken: an idle engine says nothing about a busy one; and one sequence alone is no reason to shrink.
    pub fn record_step(&mut self, took: Duration, sequences: usize) -> Option<BatchDecision> {
        if sequences == 1 {
            self.alone = Some(self.alone.map_or(took, |alone| (alone * 7 + took) / 8));
        }
        if self.steps.len() >= self.config.history.max(LEAST_STEPS) {
            self.steps.pop_front();
        }
        self.steps.push_back(took);
        if self.steps.len() < LEAST_STEPS {
            return None;
        }
        let mean = self.mean_step()?;
        let alone = self.alone.unwrap_or_default();
        let target = self.config.target.max(alone * 3 / 2);
        let maximum = self.config.maximum.max(alone * 2);
        if mean < target && sequences >= self.size && self.size < self.config.max && !self.held {
            Some(self.decide(BatchDecision::Grow))
        } else if mean > maximum && sequences > 1 && self.size > self.config.min {
            Some(self.decide(BatchDecision::Shrink))
        } else {
            None
        }
    }

    /// Takes in how stable the readers' networks are, 0 to 1 (the share of streams that keep up).
    pub fn record_network(&mut self, stability: f64) -> Option<BatchDecision> {
        (stability < STABLE && self.size > self.config.min)
            .then(|| self.decide(BatchDecision::HalveForNetwork))
    }

    /// While `held` it does not grow: memory is short.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Gives way to memory pressure.
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
    fn it_begins_by_the_devices_memory() {
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
    fn it_does_not_grow_while_places_are_empty() {
        let mut controller = controller(24 * GIB);
        for _ in 0..10 {
            assert_eq!(controller.record_step(Duration::from_millis(10), 2), None);
        }
    }

    #[test]
    fn it_shrinks_when_steps_are_too_slow_and_rests_between_target_and_maximum() {
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
    fn a_model_that_is_slow_anyhow_keeps_its_places() {
        let mut controller = controller(24 * GIB);
        // One alone takes 400 ms, eight together 500 ms: there is nothing to win by running fewer.
        for _ in 0..10 {
            assert_eq!(controller.record_step(Duration::from_millis(400), 1), None);
        }
        for _ in 0..30 {
            controller.record_step(Duration::from_millis(500), controller.size());
        }
        assert_eq!(controller.size(), 16);
        // Twice what one alone takes is too much here too.
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
        controller.hold(true);
        for _ in 0..10 {
            assert_eq!(fast(&mut controller), None);
        }
        controller.hold(false);
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
