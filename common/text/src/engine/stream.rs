//! The reading end of a stream, and its event buffer.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::{Stream, StreamExt as _};

use crate::StreamEvent;
use crate::scheduler::SeqId;

/// Receives notifications about the reader of a stream.
pub(crate) trait StreamOwner: Send + Sync {
    /// A reader that is behind has read an event.
    fn reader_progressed(&self, seq: SeqId);
    /// The reader has read enough for its sequence to continue.
    fn reader_caught_up(&self, seq: SeqId);
    /// The reader was dropped.
    fn reader_dropped(&self, seq: SeqId);
}

/// Stream of the events of one generation. Dropping it cancels the generation; its slot is free from the next step on.
///
/// The last event is [`StreamEvent::Completed`]. While the buffer is full, its own sequence pauses, until half of the buffer has
/// been read; other sequences are not affected.
pub struct TokenStream {
    id: String,
    seq: SeqId,
    buffer: Arc<EventBuffer>,
    owner: Arc<dyn StreamOwner>,
    ended: bool,
}

impl TokenStream {
    pub(crate) fn new(id: String, seq: SeqId, buffer: Arc<EventBuffer>, owner: Arc<dyn StreamOwner>) -> Self {
        Self { id, seq, buffer, owner, ended: false }
    }

    /// The request's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Number of buffered events.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.buffer.lock().events.len()
    }

    /// Waits for an event and returns it together with up to `most - 1` further buffered ones; empty at the end of the stream.
    pub async fn next_many(&mut self, most: usize) -> Vec<StreamEvent> {
        let mut events: Vec<StreamEvent> = self.next().await.into_iter().collect();
        while !events.is_empty() && events.len() < most {
            match self.take_ready() {
                Some(event) => events.push(event),
                None => break,
            }
        }
        events
    }

    fn take_ready(&mut self) -> Option<StreamEvent> {
        if self.ended {
            return None;
        }
        let event = {
            let mut state = self.buffer.lock();
            let event = state.events.pop_front()?;
            self.caught_up(&mut state);
            event
        };
        self.ended = matches!(event, StreamEvent::Completed(_));
        Some(event)
    }

    /// Must be called under the buffer's lock, so that "slow" and "caught up" reach the scheduler in order.
    fn caught_up(&self, state: &mut BufferState) {
        if state.slow && state.events.len() <= self.buffer.capacity / 2 {
            state.slow = false;
            self.owner.reader_caught_up(self.seq);
        } else if state.slow {
            self.owner.reader_progressed(self.seq);
        }
    }
}

impl Stream for TokenStream {
    type Item = StreamEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<StreamEvent>> {
        if let Some(event) = self.take_ready() {
            return Poll::Ready(Some(event));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let mut state = self.buffer.lock();
        if state.events.is_empty() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        // An event arrived between the two checks.
        drop(state);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        let mut state = self.buffer.lock();
        state.closed = true;
        state.waker = None;
        state.events = VecDeque::new();
        drop(state);
        if !self.ended {
            self.owner.reader_dropped(self.seq);
        }
    }
}

impl fmt::Debug for TokenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStream").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Buffer of events between the delivery thread and a reader.
#[derive(Debug)]
pub(crate) struct EventBuffer {
    capacity: usize,
    state: Mutex<BufferState>,
}

#[derive(Debug, Default)]
struct BufferState {
    events: VecDeque<StreamEvent>,
    waker: Option<Waker>,
    /// The sequence is paused because of this reader.
    slow: bool,
    /// The reader was dropped.
    closed: bool,
}

impl EventBuffer {
    /// A buffer of `capacity` events. Events of steps in progress may exceed it.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), state: Mutex::default() }
    }

    /// Adds an event and returns the waker of a waiting reader. Calls `slow`, under the lock, when the buffer becomes full.
    pub(crate) fn push(&self, event: StreamEvent, slow: impl FnOnce()) -> Option<Waker> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        state.events.push_back(event);
        if state.events.len() >= self.capacity && !state.slow {
            state.slow = true;
            slow();
        }
        state.waker.take()
    }

    fn lock(&self) -> MutexGuard<'_, BufferState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
