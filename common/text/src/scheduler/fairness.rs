//! Recent usage per principal.

use std::collections::BTreeMap;
use std::time::Duration;

/// Time constant of the exponential decay of usage, seconds.
const DECAY_SECONDS: f64 = 10.0;
/// Usage below this many seconds is dropped.
const NEGLIGIBLE: f64 = 1e-3;

/// Slot time that each principal has used recently, in seconds with exponential decay.
#[derive(Debug, Clone, Default)]
pub(super) struct Fairness {
    used: BTreeMap<String, f64>,
    at: Duration,
}

impl Fairness {
    /// Advances to `now`. `running` has the principal of each sequence that held a slot in the meantime.
    pub(super) fn advance<'a>(&mut self, now: Duration, running: impl Iterator<Item = &'a str>) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        if passed <= 0.0 {
            return;
        }
        let kept = (-passed / DECAY_SECONDS).exp();
        self.used.retain(|_, used| {
            *used *= kept;
            *used > NEGLIGIBLE
        });
        // The integral of the decayed usage over the interval, so that a long interval counts at most DECAY_SECONDS.
        let gained = DECAY_SECONDS * (1.0 - kept);
        for principal in running {
            match self.used.get_mut(principal) {
                Some(used) => *used += gained,
                None => {
                    self.used.insert(principal.to_owned(), gained);
                }
            }
        }
    }

    /// Delay that is added to the arrival time of this principal's requests.
    pub(super) fn penalty(&self, principal: &str) -> Duration {
        Duration::from_secs_f64(self.used.get(principal).copied().unwrap_or(0.0))
    }

    /// Number of principals with recent usage.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.used.len()
    }
}
