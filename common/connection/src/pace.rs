//! How fast a body must come.

use std::time::Duration;

use tokio::time::Instant;

/// The body came more slowly than its [`Pace`] allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

/// The pace of a body: a minimum number of bytes in every window, no silence that is longer than a window, and a total time.
/// Only time in which the reader waits counts towards a window, so that a reader which pauses the sender does no harm.
#[derive(Debug, Clone)]
pub struct Pace {
    window: Duration,
    minimum: u64,
    deadline: Instant,
    /// Begin of the current wait for bytes.
    silent_since: Option<Instant>,
    /// Begin of the part of the current wait that belongs to the current window.
    counted_since: Instant,
    /// Time waited in the current window, without the current wait.
    waited: Duration,
    /// Bytes received in the current window.
    received: u64,
}

impl Pace {
    /// At least `minimum` bytes in every `window`, and the whole body within `total`.
    #[must_use]
    pub fn new(now: Instant, window: Duration, minimum: u64, total: Duration) -> Self {
        Self {
            window,
            minimum,
            deadline: now + total,
            silent_since: None,
            counted_since: now,
            waited: Duration::ZERO,
            received: 0,
        }
    }

    /// `count` bytes have come.
    pub fn received(&mut self, now: Instant, count: u64) {
        if self.silent_since.take().is_some() {
            self.waited += now.saturating_duration_since(self.counted_since);
        }
        self.received += count;
    }

    /// Nothing has come yet. Returns when to ask again.
    ///
    /// # Errors
    /// When the body is too slow.
    pub fn waiting(&mut self, now: Instant) -> Result<Instant, TooSlow> {
        let silent_since = *self.silent_since.get_or_insert_with(|| {
            self.counted_since = now;
            now
        });
        let mut window_end = self.counted_since + self.window.saturating_sub(self.waited);
        if now >= silent_since + self.window || now >= self.deadline {
            return Err(TooSlow);
        }
        if now >= window_end {
            if self.received < self.minimum {
                return Err(TooSlow);
            }
            (self.received, self.waited, self.counted_since) = (0, Duration::ZERO, now);
            window_end = now + self.window;
        }
        Ok(window_end.min(silent_since + self.window).min(self.deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Reads a body of (pause before it, bytes), and returns how long it took or when it failed.
    fn read(pieces: impl IntoIterator<Item = (Duration, u64)>) -> (Duration, Result<(), TooSlow>) {
        let began = Instant::now();
        let mut now = began;
        let mut pace = Pace::new(now, 5 * SECOND, 1000, 60 * SECOND);
        for (pause, count) in pieces {
            let arrival = now + pause;
            loop {
                match pace.waiting(now) {
                    Err(slow) => return (now - began, Err(slow)),
                    Ok(again) if again < arrival => now = again,
                    Ok(_) => break,
                }
            }
            now = arrival;
            pace.received(now, count);
        }
        (now - began, Ok(()))
    }

    #[tokio::test]
    async fn every_window_needs_its_bytes() {
        assert_eq!(read((0..50).map(|_| (SECOND, 300))).1, Ok(()));
        let (after, result) = read((0..50).map(|_| (SECOND, 100)));
        assert_eq!((after, result), (5 * SECOND, Err(TooSlow)));
        // What came before gives no credit: at most one window later the body has failed.
        let burst = std::iter::once((SECOND, 1 << 30));
        let (after, result) = read(burst.clone().chain([(100 * SECOND, 1)]));
        assert_eq!((after, result), (6 * SECOND, Err(TooSlow)));
        let (after, result) = read(burst.chain((0..100).map(|_| (SECOND, 1))));
        assert_eq!((after, result), (10 * SECOND, Err(TooSlow)));
    }

    #[tokio::test]
    async fn the_total_time_is_limited() {
        let (after, result) = read((0..100).map(|_| (SECOND, 10_000)));
        assert_eq!((after, result), (60 * SECOND, Err(TooSlow)));
    }

    #[tokio::test]
    async fn time_in_which_nobody_reads_does_not_count() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now, 5 * SECOND, 1000, 600 * SECOND);
        for _ in 0..20 {
            assert!(pace.waiting(now).is_ok());
            now += SECOND / 10;
            pace.received(now, 50);
            // The reader is busy with what it has.
            now += 20 * SECOND;
        }
        assert!(pace.waiting(now).is_ok());
    }
}
