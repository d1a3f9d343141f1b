//! Events of one job, for SSE.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, channel::mpsc};
use videosdgx_api::{EventKind, JobEvent};

/// The events of one job after a sequence number: first the past ones, then the live ones, without gap or repetition.
/// Ends after the event of a final status; also when the queue closes or when the reader falls [`EventStream::BUFFER`]
/// events behind (then reconnect with the last sequence number received).
#[derive(Debug)]
pub struct EventStream {
    replay: VecDeque<JobEvent>,
    live: Option<mpsc::Receiver<JobEvent>>,
}

impl EventStream {
    /// Live events that may wait for a slow reader.
    pub const BUFFER: usize = 256;

    /// For drivers: the past events, then those from `live` (`None` for a job that has ended).
    #[must_use]
    pub fn new(replay: VecDeque<JobEvent>, live: Option<mpsc::Receiver<JobEvent>>) -> Self {
        Self { replay, live }
    }
}

impl Stream for EventStream {
    type Item = JobEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<JobEvent>> {
        let event = if let Some(event) = self.replay.pop_front() {
            Some(event)
        } else if let Some(live) = &mut self.live {
            match Pin::new(live).poll_next(context) {
                Poll::Ready(event) => event,
                Poll::Pending => return Poll::Pending,
            }
        } else {
            None
        };
        let last =
            event.as_ref().is_none_or(|event| event.kind == EventKind::State && event.status.is_terminal());
        if last {
            self.live = None;
            self.replay.clear();
        }
        Poll::Ready(event)
    }
}
