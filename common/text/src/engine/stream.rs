//! The reader's end of a stream, and the buffer before it.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::{Stream, StreamExt as _};

use crate::StreamEvent;
use crate::scheduler::SeqId;

/// Who is told what the reader does.
pub(crate) trait StreamOwner: Send + Sync {
    /// The reader, who is behind, has taken something.
    fn reader_reads(&self, seq: SeqId);
    /// The reader has taken enough: its sequence may go on.
    fn reader_caught_up(&self, seq: SeqId);
    /// The reader is gone.
    fn reader_left(&self, seq: SeqId);
}

/// Events of one generation as they come. Dropping it cancels the generation; its place is free with the next step.
///
/// The last event is [`StreamEvent::Completed`]; then the stream ends. When its buffer is full, its sequence (and no other)
/// pauses until half of the buffer has been read.
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

    /// How many events are ready now.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.buffer.lock().events.len()
    }

    /// Waits for an event and takes it with up to `most - 1` further ones that are ready already; empty at the end.
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

    /// Inside the buffer's lock, so that "slow" and "caught up" reach the scheduler in the order in which they happened.
    fn caught_up(&self, state: &mut BufferState) {
        if state.slow && state.events.len() <= self.buffer.capacity / 2 {
            state.slow = false;
            self.owner.reader_caught_up(self.seq);
        } else if state.slow {
            self.owner.reader_reads(self.seq);
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
        // An event came between the two looks.
        drop(state);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        let mut state = self.buffer.lock();
        state.left = true;
        state.waker = None;
        state.events = VecDeque::new();
        drop(state);
        if !self.ended {
            self.owner.reader_left(self.seq);
        }
    }
}

impl fmt::Debug for TokenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStream").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Events between the delivery thread and a reader.
#[derive(Debug)]
pub(crate) struct EventBuffer {
    capacity: usize,
    state: Mutex<BufferState>,
}

#[derive(Debug, Default)]
struct BufferState {
    events: VecDeque<StreamEvent>,
    waker: Option<Waker>,
    /// The sequence was paused for this reader.
    slow: bool,
    /// The reader is gone.
    left: bool,
}

impl EventBuffer {
    /// For `capacity` events; those of steps already under way come on top.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), state: Mutex::default() }
    }

    /// Adds an event; calls `slow`, inside the lock, when the reader should be waited for. Gives who is to be woken.
    pub(crate) fn push(&self, event: StreamEvent, slow: impl FnOnce()) -> Option<Waker> {
        let mut state = self.lock();
        if state.left {
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
