//! Streams that survive a lost connection. For each stream a task reads the engine's output into an event log, from which a
//! connection delivers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use tokio::sync::Notify;
use videosdgx_api::{ClientProfile, ServerEvent};
use videosdgx_text::TextEngine;

use super::{
    event_log::{EventLog, NextDelivery},
    events::EventEncoder,
};
use crate::{metrics::TextMetrics, output::OutputStream};

/// Maximum number of resumable streams, of one principal and in total.
const MAX_PER_PRINCIPAL: usize = 64;
const MAX_TOTAL: usize = 1024;

/// One stream of a WebSocket; resumable if the client requested it.
#[derive(Debug)]
pub(crate) struct ResumableStream {
    pub(crate) id: String,
    principal: String,
    pub(crate) request_id: Option<String>,
    pub(crate) resumable: bool,
    engine: TextEngine,
    engine_id: String,
    /// The log's time 0.
    epoch: Instant,
    state: Mutex<State>,
    /// Notified when the log has capacity again, or a connection was attached or detached.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    log: EventLog,
    /// Wakes the connection that delivers the stream.
    reader: Option<Arc<Notify>>,
    /// Since when no connection delivers the stream.
    detached_at: Option<Instant>,
    /// The stream will not be resumed any more.
    discarded: bool,
}

/// The properties of a new stream.
pub(crate) struct NewStream {
    pub(crate) id: String,
    pub(crate) principal: String,
    pub(crate) request_id: Option<String>,
    pub(crate) profile: ClientProfile,
    pub(crate) resumable: bool,
}

impl ResumableStream {
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

    /// The next message, if one is to be delivered now. `slow`: the connection is behind.
    pub(crate) fn take(&self, slow: bool) -> Option<ServerEvent> {
        let now = self.now();
        let mut state = self.lock();
        if state.log.next_delivery(now) != NextDelivery::Now {
            return None;
        }
        let event = state.log.take(now, slow);
        drop(state);
        self.changed.notify_one();
        event
    }

    /// Time until the next message is to be delivered if no further event arrives.
    pub(crate) fn next_delivery_in(&self) -> Option<Duration> {
        let now = self.now();
        match self.lock().log.next_delivery(now) {
            NextDelivery::Now => Some(Duration::ZERO),
            NextDelivery::At(time) => Some(time.saturating_sub(now)),
            NextDelivery::None => None,
        }
    }

    /// Whether every event was delivered.
    pub(crate) fn is_delivered(&self) -> bool {
        self.lock().log.is_delivered()
    }

    /// Whether the connection of `reader` delivers the stream.
    pub(crate) fn is_read_by(&self, reader: &Arc<Notify>) -> bool {
        self.lock().reader.as_ref().is_some_and(|own| Arc::ptr_eq(own, reader))
    }

    /// Cancels the generation; its `complete` event still follows.
    pub(crate) fn cancel(&self) {
        self.engine.cancel(&self.engine_id);
    }

    /// The connection does not deliver the stream any more. `discard`: it cannot be resumed either.
    pub(crate) fn detach(&self, discard: bool) {
        let mut state = self.lock();
        state.reader = None;
        state.detached_at = Some(Instant::now());
        state.discarded |= discard || !self.resumable;
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until the log has capacity. False: the stream has ended, was discarded, or was detached for `retention`.
    async fn may_read(&self, retention: Duration) -> bool {
        loop {
            let wait = {
                let state = self.lock();
                let left = state.time_left(retention);
                if left.is_some_and(|left| left.is_zero()) {
                    return false;
                }
                if state.log.has_capacity() && !state.log.has_ended() {
                    return true;
                }
                left
            };
            self.wait_for_change(wait).await;
        }
    }

    /// Waits until the stream is discarded or was detached for `retention`.
    async fn is_expired(&self, retention: Duration) {
        loop {
            let left = self.lock().time_left(retention);
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            self.wait_for_change(left).await;
        }
    }

    async fn wait_for_change(&self, timeout: Option<Duration>) {
        match timeout {
            Some(timeout) => drop(tokio::time::timeout(timeout, self.changed.notified()).await),
            None => self.changed.notified().await,
        }
    }
}

impl State {
    /// How long the stream is kept from now on; None while a connection delivers it.
    fn time_left(&self, retention: Duration) -> Option<Duration> {
        if self.discarded {
            return Some(Duration::ZERO);
        }
        self.detached_at.map(|detached| retention.saturating_sub(detached.elapsed()))
    }
}

/// The resumable streams of a service's WebSockets.
#[derive(Debug)]
pub(crate) struct ResumableStreams {
    streams: Mutex<HashMap<String, Arc<ResumableStream>>>,
    retention: Duration,
    capacity: usize,
    metrics: TextMetrics,
}

impl ResumableStreams {
    /// `retention`: how long a stream is kept after its connection was lost. `capacity`: undelivered events per stream.
    pub(crate) fn new(retention: Duration, capacity: usize, metrics: TextMetrics) -> Self {
        Self { streams: Mutex::default(), retention, capacity, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<ResumableStream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of streams that no connection delivers.
    pub(crate) fn detached(&self) -> usize {
        self.lock().values().filter(|stream| stream.lock().detached_at.is_some()).count()
    }

    /// Discards the streams that no connection delivers, for shutdown.
    pub(crate) fn discard_detached(&self) {
        for stream in self.lock().values() {
            if stream.lock().detached_at.is_some() {
                stream.detach(true);
            }
        }
    }

    /// Whether this principal may have another resumable stream.
    pub(crate) fn has_capacity(&self, principal: &str) -> bool {
        let streams = self.lock();
        let own = streams.values().filter(|stream| stream.principal == principal).count();
        own < MAX_PER_PRINCIPAL && streams.len() < MAX_TOTAL
    }

    /// Starts to read `output`; `reader` is notified whenever there is something to deliver.
    pub(crate) fn start(
        self: &Arc<Self>,
        new: NewStream,
        output: OutputStream,
        engine: TextEngine,
        reader: Arc<Notify>,
    ) -> Arc<ResumableStream> {
        let stream = Arc::new(ResumableStream {
            engine_id: output.engine_id().to_owned(),
            id: new.id,
            principal: new.principal,
            request_id: new.request_id,
            resumable: new.resumable,
            engine,
            epoch: Instant::now(),
            state: Mutex::new(State {
                log: EventLog::new(self.capacity, new.profile, new.resumable),
                reader: Some(reader),
                detached_at: None,
                discarded: false,
            }),
            changed: Notify::new(),
        });
        if stream.resumable {
            self.lock().insert(stream.id.clone(), Arc::clone(&stream));
        }
        tokio::spawn(read_output(Arc::clone(self), Arc::clone(&stream), output));
        stream
    }

    /// Attaches a connection to a stream of its principal; delivery continues after the token at `position`.
    pub(crate) fn resume(
        &self,
        id: &str,
        principal: &str,
        position: Option<u64>,
        reader: Arc<Notify>,
    ) -> Result<Arc<ResumableStream>, ResumeError> {
        let known = self.lock().get(id).filter(|stream| stream.principal == principal).cloned();
        let stream = known.ok_or(ResumeError::NotFound)?;
        {
            let mut state = stream.lock();
            if state.discarded {
                return Err(ResumeError::NotFound);
            }
            if !state.log.rewind(position) {
                return Err(ResumeError::PositionDropped);
            }
            // The previous connection may not have noticed yet that it is lost; it stops delivering.
            if let Some(previous) = state.reader.replace(reader) {
                previous.notify_one();
            }
            state.detached_at = None;
        }
        stream.changed.notify_one();
        self.metrics.resumed.inc();
        Ok(stream)
    }
}

/// Why a stream cannot be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResumeError {
    /// There is no such stream, or it belongs to another principal.
    NotFound,
    /// The events after that position were dropped.
    PositionDropped,
}

/// Reads the engine's output while the log has capacity, and keeps the stream until it expires.
async fn read_output(streams: Arc<ResumableStreams>, stream: Arc<ResumableStream>, mut output: OutputStream) {
    let mut encoder = EventEncoder::default();
    while stream.may_read(streams.retention).await {
        // A stream may also expire while it waits for the engine.
        let event = tokio::select! {
            event = output.next() => event,
            () = stream.is_expired(streams.retention) => None,
        };
        let Some((_, event)) = event else { break };
        stream.push(encoder.encode(event));
        if stream.lock().log.has_ended() {
            break;
        }
    }
    drop(output);
    if stream.resumable {
        // The client can still fetch the last events, which may have been lost with its connection.
        let ended = tokio::time::Instant::now();
        let expired = stream.is_expired(streams.retention);
        let _ = tokio::time::timeout_at(ended + streams.retention, expired).await;
        streams.lock().remove(&stream.id);
    }
}
