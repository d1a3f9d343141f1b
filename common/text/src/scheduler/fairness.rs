//! What each principal has used lately.

use std::collections::BTreeMap;
use std::time::Duration;

/// What was used fades to 1/e in so many seconds.
const FADES: f64 = 10.0;
/// Less than this is forgotten, seconds.
const NOTHING: f64 = 1e-3;

/// Seconds of places that each principal has used, fading.
#[derive(Debug, Clone, Default)]
pub(super) struct Fairness {
    used: BTreeMap<String, f64>,
    at: Duration,
}

impl Fairness {
    /// Time passed, in which these principals held a place each (one that held several comes several times).
    pub(super) fn advance<'a>(&mut self, now: Duration, running: impl Iterator<Item = &'a str>) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        if passed <= 0.0 {
            return;
        }
        let kept = (-passed / FADES).exp();
        self.used.retain(|_, used| {
            *used *= kept;
            *used > NOTHING
        });
        // As if it had been used evenly over the time: then a long gap counts no more than FADES.
        let gained = FADES * (1.0 - kept);
        for principal in running {
            match self.used.get_mut(principal) {
                Some(used) => *used += gained,
                None => {
                    self.used.insert(principal.to_owned(), gained);
                }
            }
        }
    }

    /// How much later requests of this principal count as having come.
    pub(super) fn penalty(&self, principal: &str) -> Duration {
        Duration::from_secs_f64(self.used.get(principal).copied().unwrap_or(0.0))
    }

    /// Principals it remembers.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.used.len()
    }
}
