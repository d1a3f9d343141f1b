//! A circuit breaker as a pure state machine: the caller passes the time in.

use std::time::{Duration, Instant};

use http::StatusCode;

/// Failures in a row that open the breaker.
pub(crate) const FAILURES_TO_OPEN: u32 = 5;
/// Successes in a row that close it from half-open.
pub(crate) const SUCCESSES_TO_CLOSE: u32 = 2;
/// How long it stays open before it admits a trial request.
pub(crate) const OPEN_FOR: Duration = Duration::from_secs(30);

/// Refuses requests to a service that keeps failing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breaker {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// Admits one trial request at a time.
    HalfOpen {
        successes: u32,
        trial_in_flight: bool,
    },
}

/// How an admitted request ended, as a fact about the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered.
    Success,
    /// It could not be reached, broke the connection or took too long.
    Failure,
    /// It is not known: the client left before the end.
    Unknown,
}

impl Outcome {
    /// The outcome of a response: 502 and 504 count as failures, other errors of a service do not.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Self::Failure,
            _ => Self::Success,
        }
    }
}

/// The state of a breaker, as it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    Closed,
    HalfOpen,
    Open,
}

impl BreakerState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { state: State::Closed { failures: 0 } }
    }

    /// Whether a request may be sent now. The caller follows every `true` by exactly one [`Breaker::record`].
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } if now < until => false,
            State::Open { .. } => {
                self.state = State::HalfOpen { successes: 0, trial_in_flight: true };
                true
            }
            State::HalfOpen { trial_in_flight: true, .. } => false,
            State::HalfOpen { successes, trial_in_flight: false } => {
                self.state = State::HalfOpen { successes, trial_in_flight: true };
                true
            }
        }
    }

    /// Records the outcome of an admitted request.
    pub(crate) fn record(&mut self, now: Instant, outcome: Outcome) {
        self.state = match (self.state, outcome) {
            (State::Closed { .. }, Outcome::Success) => State::Closed { failures: 0 },
            (State::Closed { failures }, Outcome::Failure) if failures + 1 >= FAILURES_TO_OPEN => {
                State::Open { until: now + OPEN_FOR }
            }
            (State::Closed { failures }, Outcome::Failure) => State::Closed { failures: failures + 1 },
            (State::HalfOpen { successes, .. }, Outcome::Success) if successes + 1 >= SUCCESSES_TO_CLOSE => {
                State::Closed { failures: 0 }
            }
            (State::HalfOpen { successes, .. }, Outcome::Success) => {
                State::HalfOpen { successes: successes + 1, trial_in_flight: false }
            }
            (State::HalfOpen { .. }, Outcome::Failure) => State::Open { until: now + OPEN_FOR },
            (State::HalfOpen { successes, .. }, Outcome::Unknown) => {
                State::HalfOpen { successes, trial_in_flight: false }
            }
            // A request from before it opened adds nothing; an unknown outcome does not count.
            (state @ State::Open { .. }, _) | (state @ State::Closed { .. }, Outcome::Unknown) => state,
        };
    }

    /// A health check succeeded: an open breaker admits a trial request without waiting longer.
    pub(crate) fn health_check_passed(&mut self) {
        if matches!(self.state, State::Open { .. }) {
            self.state = State::HalfOpen { successes: 0, trial_in_flight: false };
        }
    }

    /// Its state at `now`; an open breaker whose time is over counts as half-open.
    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES_TO_OPEN {
            assert!(breaker.admit(now));
            breaker.record(now, Outcome::Failure);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_resets_the_count() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 0..20 {
            for outcome in
                [Outcome::Failure, Outcome::Failure, Outcome::Failure, Outcome::Failure, Outcome::Success]
            {
                assert!(breaker.admit(now));
                breaker.record(now, outcome);
            }
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
        let mut breaker = opened(now);
        assert_eq!(breaker.state(now), BreakerState::Open);
        assert!(!breaker.admit(now + OPEN_FOR - Duration::from_nanos(1)));
    }

    #[test]
    fn after_thirty_seconds_one_trial_at_a_time_and_two_successes_close_it() {
        let start = Instant::now();
        let later = start + OPEN_FOR;
        let mut breaker = opened(start);
        assert!(breaker.admit(later));
        assert!(!breaker.admit(later), "one trial at a time");
        breaker.record(later, Outcome::Success);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        assert!(breaker.admit(later));
        breaker.record(later, Outcome::Success);
        assert_eq!(breaker, Breaker::new());
    }

    #[test]
    fn a_failed_trial_opens_it_again_and_an_unknown_outcome_allows_another_trial() {
        let start = Instant::now();
        let later = start + OPEN_FOR;
        let mut breaker = opened(start);
        assert!(breaker.admit(later));
        breaker.record(later, Outcome::Unknown);
        assert!(breaker.admit(later));
        breaker.record(later, Outcome::Failure);
        assert_eq!(breaker.state(later), BreakerState::Open);
        assert!(!breaker.admit(later + OPEN_FOR / 2));
        assert!(breaker.admit(later + OPEN_FOR));
    }

    #[test]
    fn a_passed_health_check_allows_a_trial_early() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.health_check_passed();
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
        assert!(breaker.admit(now) && !breaker.admit(now));
        let mut closed = Breaker::new();
        closed.health_check_passed();
        assert_eq!(closed, Breaker::new());
    }

    #[test]
    fn late_outcomes_do_not_change_an_open_breaker() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let before = breaker.clone();
        for outcome in [Outcome::Success, Outcome::Failure, Outcome::Unknown] {
            breaker.record(now, outcome);
            assert_eq!(breaker, before);
        }
    }
}
