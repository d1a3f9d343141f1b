//! Streams that outlive a connection: a task each reads the engine and fills the log that a connection delivers from.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use tokio::sync::Notify;
use videosdgx_api::{ClientProfile, ServerEvent};
use videosdgx_text::TextEngine;

use super::buffer::{Due, EventLog};
use crate::{metrics::TextMetrics, output::Output, stream::events::Events};

/// Streams that are kept at most, of one principal and in all.
const MOST_OF_ONE: usize = 64;
const MOST: usize = 1024;

/// One stream.
#[derive(Debug)]
pub(crate) struct KeptStream {
    pub(crate) id: String,
    principal: String,
    pub(crate) request_id: Option<String>,
    pub(crate) resumable: bool,
    engine: TextEngine,
    engine_id: String,
    epoch: Instant,
    state: Mutex<State>,
    /// The log has room again, or the connection has gone or come.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    log: EventLog,
    /// Wakes the connection that delivers it.
    reader: Option<Arc<Notify>>,
    /// Since when nobody delivers it.
    lost_at: Option<Instant>,
    /// Nobody will come for it any more.
    dropped: bool,
}

/// A stream to begin.
pub(crate) struct NewStream {
    pub(crate) id: String,
    pub(crate) principal: String,
    pub(crate) request_id: Option<String>,
    pub(crate) profile: ClientProfile,
    pub(crate) resumable: bool,
}

impl KeptStream {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn push(&self, events: Vec<ServerEvent>) {
        let now = self.now();
        let mut state = self.lock();
        for event in events {
            state.log.push(now, event);
        }
        if let Some(reader) = &state.reader {
            reader.notify_one();
        }
    }

    /// The next message, and whether there may be another at once. `slow`: the connection is behind.
    pub(crate) fn take(&self, slow: bool) -> Option<ServerEvent> {
        let now = self.now();
        let mut state = self.lock();
        if state.log.due(now) != Due::Now {
            return None;
        }
        let event = state.log.take(now, slow);
        drop(state);
        self.changed.notify_one();
        event
    }

    /// When something is to be delivered although nothing more comes.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        let now = self.now();
        match self.lock().log.due(now) {
            Due::Now => Some(Duration::ZERO),
            Due::At(time) => Some(time.saturating_sub(now)),
            Due::Nothing => None,
        }
    }

    /// All of it was handed over.
    pub(crate) fn is_delivered(&self) -> bool {
        self.lock().log.is_delivered()
    }

    /// Ends it; its `complete` still comes.
    pub(crate) fn cancel(&self) {
        self.engine.cancel(&self.engine_id);
    }

    /// Its connection is gone: for good, or perhaps not.
    pub(crate) fn leave(&self, for_good: bool) {
        let mut state = self.lock();
        state.reader = None;
        state.lost_at = Some(Instant::now());
        state.dropped |= for_good || !self.resumable;
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until it may read on from the engine; false when nobody will come for it.
    async fn may_read(&self, keep: Duration) -> bool {
        loop {
            let wait = {
                let state = self.lock();
                if state.dropped {
                    return false;
                }
                let left = state.lost_at.map(|lost| keep.saturating_sub(lost.elapsed()));
                if left.is_some_and(|left| left.is_zero()) {
                    return false;
                }
                if state.log.has_room() && !state.log.has_ended() {
                    return true;
                }
                left
            };
            self.pause(wait).await;
        }
    }

    /// Until something changes, or the time that it is kept has passed.
    async fn pause(&self, left: Option<Duration>) {
        match left {
            Some(left) => drop(tokio::time::timeout(left, self.changed.notified()).await),
            None => self.changed.notified().await,
        }
    }

    /// When it has been lost for `keep`, or was dropped.
    async fn is_given_up(&self, keep: Duration) {
        loop {
            let left = {
                let state = self.lock();
                if state.dropped {
                    return;
                }
                state.lost_at.map(|lost| keep.saturating_sub(lost.elapsed()))
            };
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            self.pause(left).await;
        }
    }
}

/// All streams of a service's WebSockets.
#[derive(Debug)]
pub(crate) struct KeptStreams {
    streams: Mutex<HashMap<String, Arc<KeptStream>>>,
    keep: Duration,
    capacity: usize,
    metrics: TextMetrics,
}

impl KeptStreams {
    /// `keep`: how long a lost connection may take to come back. `capacity`: events that wait for a reader.
    pub(crate) fn new(keep: Duration, capacity: usize, metrics: TextMetrics) -> Self {
        Self { streams: Mutex::default(), keep, capacity, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<KeptStream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams that wait for a client that lost its connection.
    pub(crate) fn lost(&self) -> usize {
        self.lock().values().filter(|stream| stream.lock().lost_at.is_some()).count()
    }

    /// Lets go of streams whose client has not come back: it cannot any more.
    pub(crate) fn give_up_lost(&self) {
        for stream in self.lock().values() {
            if stream.lock().lost_at.is_some() {
                stream.leave(true);
            }
        }
    }

    /// Whether another one of this principal can be kept.
    pub(crate) fn has_place(&self, principal: &str) -> bool {
        let streams = self.lock();
        let own = streams.values().filter(|stream| stream.principal == principal).count();
        own < MOST_OF_ONE && streams.len() < MOST
    }

    /// Begins to read `output`; `reader` is woken whenever there is something to deliver.
    pub(crate) fn begin(
        self: &Arc<Self>,
        new: NewStream,
        output: Output,
        engine: TextEngine,
        reader: Arc<Notify>,
    ) -> Arc<KeptStream> {
        let stream = Arc::new(KeptStream {
            engine_id: output.id().to_owned(),
            id: new.id,
            principal: new.principal,
            request_id: new.request_id,
            resumable: new.resumable,
            engine,
            epoch: Instant::now(),
            state: Mutex::new(State {
                log: EventLog::new(self.capacity, new.profile, new.resumable),
                reader: Some(reader),
                lost_at: None,
                dropped: false,
            }),
            changed: Notify::new(),
        });
        if stream.resumable {
            self.lock().insert(stream.id.clone(), Arc::clone(&stream));
        }
        tokio::spawn(pump(Arc::clone(self), Arc::clone(&stream), output));
        stream
    }

    /// The stream of this principal, to be delivered from what follows `position` on.
    pub(crate) fn resume(
        &self,
        id: &str,
        principal: &str,
        position: Option<u64>,
        reader: Arc<Notify>,
    ) -> Result<Arc<KeptStream>, ResumeError> {
        let known = self.lock().get(id).filter(|stream| stream.principal == principal).cloned();
        let stream = known.ok_or(ResumeError::Unknown)?;
        {
            let mut state = stream.lock();
            if state.dropped {
                return Err(ResumeError::Unknown);
            }
            if !state.log.rewind(position) {
                return Err(ResumeError::Forgotten);
            }
            // A connection that has it still, perhaps without knowing that it is lost, has it no longer.
            if let Some(before) = state.reader.replace(reader) {
                before.notify_one();
            }
            state.lost_at = None;
        }
        stream.changed.notify_one();
        self.metrics.resumed.inc();
        Ok(stream)
    }
}

impl KeptStream {
    /// Whether `reader` is who delivers it.
    pub(crate) fn is_read_by(&self, reader: &Arc<Notify>) -> bool {
        self.lock().reader.as_ref().is_some_and(|own| Arc::ptr_eq(own, reader))
    }
}

/// Why a stream cannot be taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResumeError {
    /// There is none, or it is somebody else's: nobody can tell which.
    Unknown,
    /// The tokens after that position are not kept any more.
    Forgotten,
}

/// Reads the engine while there is room, and keeps the stream until nobody will come for it.
async fn pump(streams: Arc<KeptStreams>, stream: Arc<KeptStream>, mut output: Output) {
    let mut events = Events::default();
    while stream.may_read(streams.keep).await {
        // Also while it waits for the engine, a stream that is given up frees its place.
        let piece = tokio::select! {
            piece = output.next() => piece,
            () = stream.is_given_up(streams.keep) => None,
        };
        let Some((_, piece)) = piece else { break };
        stream.push(events.of(piece));
        if stream.lock().log.has_ended() {
            break;
        }
    }
    drop(output);
    if stream.resumable {
        // What was sent last may be lost with its connection.
        let ended = tokio::time::Instant::now();
        let _ = tokio::time::timeout_at(ended + streams.keep, stream.is_given_up(streams.keep)).await;
        streams.lock().remove(&stream.id);
    }
}
