//! A clock that never goes back and never jumps.

use jiff::Timestamp;

/// Readings of a driver's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Milliseconds of a clock that should be monotonic; where it begins does not matter.
    pub ticks: i64,
    /// Wall clock, for records.
    pub wall: Timestamp,
}

/// Derives queue time, in milliseconds, from [`Time::ticks`]. A period without calls (the process was stopped, a disk did not
/// respond, the clock was set) counts for at most [`Clock::MAX_GAP`]: workers could not renew their leases either, so leases
/// must not end because of it. Therefore a driver must call at least every [`Clock::TICK`] while there are leases.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    now: i64,
    last_ticks: Option<i64>,
}

impl Clock {
    /// How often a driver must call.
    pub const TICK: i64 = 2_000;
    /// Maximum advance of queue time in one call.
    pub const MAX_GAP: i64 = 5_000;

    /// A clock that starts at `now`.
    #[must_use]
    pub fn new(now: i64) -> Self {
        Self { now, last_ticks: None }
    }

    /// Queue time at `time`.
    pub fn advance(&mut self, time: Time) -> i64 {
        let gap = self.last_ticks.map_or(0, |last| time.ticks.saturating_sub(last));
        self.now += gap.clamp(0, Self::MAX_GAP);
        self.last_ticks = Some(time.ticks);
        self.now
    }

    /// Queue time at the last call.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Sets the time forward: queue times stored by an earlier process must lie in the past.
    pub fn at_least(&mut self, now: i64) {
        self.now = self.now.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: i64) -> Time {
        Time { ticks, wall: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn leaps_count_for_little_and_nothing_goes_back() {
        let mut clock = Clock::new(1_000);
        assert_eq!(clock.advance(at(50)), 1_000);
        assert_eq!(clock.advance(at(150)), 1_100);
        assert_eq!(clock.advance(at(-9_000_000)), 1_100);
        assert_eq!(clock.advance(at(-9_000_000 + 7)), 1_107);
        assert_eq!(clock.advance(at(i64::MAX)), 1_107 + Clock::MAX_GAP);
    }
}
