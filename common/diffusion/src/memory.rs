//! How much memory a checkpoint will need, before any of it is allocated.

use crate::Residency;

/// Bytes that libtorch itself needs: thread pools, workspaces, code that becomes resident when it is first used.
const RUNTIME_BYTES: u64 = 200 << 20;

/// Memory of one stage of a pipeline, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageMemory {
    /// Weights of the stage's components.
    pub weights: u64,
    /// Peak of everything else while the stage runs one job.
    pub activations: u64,
}

/// Memory of a pipeline, stage by stage, for jobs of one size.
///
/// ```
/// use videosdgx_diffusion::{MemoryEstimate, StageMemory};
///
/// let encoders = StageMemory { weights: 9_000, activations: 0 };
/// let generator = StageMemory { weights: 5_000, activations: 1_000 };
/// let estimate = MemoryEstimate::new(vec![encoders, generator]);
/// assert_eq!(estimate.whole_peak() - estimate.staged_peak(), 15_000 - 9_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryEstimate {
    stages: Vec<StageMemory>,
    /// Bytes that are in memory in every stage.
    lasting: u64,
}

impl MemoryEstimate {
    /// From the stages of a pipeline, in their order.
    #[must_use]
    pub fn new(stages: Vec<StageMemory>) -> Self {
        Self { stages, lasting: 0 }
    }

    /// The same with `bytes` more in every stage, for example of LoRAs.
    #[must_use]
    pub fn with_lasting(mut self, bytes: u64) -> Self {
        self.lasting = self.lasting.saturating_add(bytes);
        self
    }

    /// Peak with [`Residency::Whole`]: all weights, and the activations of the most demanding stage.
    #[must_use]
    pub fn whole_peak(&self) -> u64 {
        let weights: u64 = self.stages.iter().map(|stage| stage.weights).sum();
        let activations = self.stages.iter().map(|stage| stage.activations).max().unwrap_or(0);
        weights + activations + self.lasting + RUNTIME_BYTES
    }

    /// Peak with [`Residency::Staged`]: the most demanding stage alone.
    #[must_use]
    pub fn staged_peak(&self) -> u64 {
        let stages = self.stages.iter().map(|stage| stage.weights + stage.activations);
        stages.max().unwrap_or(0) + self.lasting + RUNTIME_BYTES
    }

    /// Peak with `residency`.
    #[must_use]
    pub fn peak(&self, residency: Residency) -> u64 {
        match residency {
            Residency::Whole => self.whole_peak(),
            Residency::Staged => self.staged_peak(),
        }
    }

    /// [`Residency::Whole`] when that fits into `available` bytes (or these are not known), else [`Residency::Staged`].
    #[must_use]
    pub fn residency(&self, available: Option<u64>) -> Residency {
        match available {
            Some(available) if available < self.whole_peak() => Residency::Staged,
            _ => Residency::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_follow_the_stages_and_residency_the_available_memory() {
        let estimate = MemoryEstimate::new(vec![
            StageMemory { weights: 900, activations: 0 },
            StageMemory { weights: 500, activations: 300 },
        ]);
        assert_eq!(estimate.whole_peak(), 900 + 500 + 300 + RUNTIME_BYTES);
        assert_eq!(estimate.staged_peak(), 900 + RUNTIME_BYTES);
        let with_loras = estimate.clone().with_lasting(70);
        assert_eq!(with_loras.whole_peak() - estimate.whole_peak(), 70);
        assert_eq!(with_loras.staged_peak() - estimate.staged_peak(), 70);
        assert_eq!(estimate.residency(None), Residency::Whole);
        assert_eq!(estimate.residency(Some(estimate.whole_peak())), Residency::Whole);
        assert_eq!(estimate.residency(Some(estimate.whole_peak() - 1)), Residency::Staged);
        assert_eq!(estimate.peak(Residency::Staged), estimate.staged_peak());
    }
}
