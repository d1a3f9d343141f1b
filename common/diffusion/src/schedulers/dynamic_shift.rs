//! A shift of the schedule that grows with the number of tokens (Esser et al. 2024), as diffusers'
//! `use_dynamic_shifting` computes it.

/// How the shift follows from the number of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct DynamicShift {
    /// Numbers of tokens between which the shift is interpolated (and beyond which it is extrapolated).
    pub tokens: [f64; 2],
    /// The shift (mu) at those.
    pub mu: [f64; 2],
    /// The formula that applies it.
    pub kind: ShiftKind,
}

/// The formula of a dynamic shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShiftKind {
    /// `e^mu / (e^mu + 1/sigma - 1)`.
    Exponential,
    /// `mu / (mu + 1/sigma - 1)`.
    Linear,
}

impl DynamicShift {
    /// `sigma` (0 to 1) shifted towards noise for a sequence of `tokens` tokens.
    #[must_use]
    pub fn shifted(&self, sigma: f64, tokens: i64) -> f64 {
        let slope = (self.mu[1] - self.mu[0]) / (self.tokens[1] - self.tokens[0]);
        let mu = tokens as f64 * slope + (self.mu[0] - slope * self.tokens[0]);
        let weight = match self.kind {
            ShiftKind::Exponential => mu.exp(),
            ShiftKind::Linear => mu,
        };
        weight / (weight + (1.0 / sigma - 1.0))
    }
}

/// Stretches a schedule away from 1, so that its last sigma is `terminal`.
pub(super) fn stretched_to(sigmas: &[f64], terminal: f64) -> Vec<f64> {
    let Some(last) = sigmas.last() else { return Vec::new() };
    // A schedule of one step at 1 cannot be stretched; the reference divides by zero.
    if *last >= 1.0 {
        return sigmas.to_vec();
    }
    let scale = (1.0 - last) / (1.0 - terminal);
    sigmas.iter().map(|sigma| 1.0 - (1.0 - sigma) / scale).collect()
}
