//! Streaming over many prompts on one engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};

use super::slots::{Slot, Slots};
use super::{
    GenerateOptions, GenerateStream, Prompts, StreamInput, StreamOutcome, StreamRequest, StreamResult,
};
use crate::engine::{StreamOptions, TextEngine, TokenStream};
use crate::{Completed, GenerationRequest, StreamError, StreamEvent, SubmitError};

/// Number of [`StreamingComputationEngine::generate_stream`] calls in this process, which makes their request ids unique.
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// Configuration of a [`StreamingComputationEngine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamingConfig {
    /// Maximum number of requests in the engine at the same time (default: 4); further ones wait by priority.
    pub max_concurrent_requests: usize,
    /// Capacity of a stream's event buffer (default: 100).
    pub buffer_size: usize,
}

impl Default for StreamingConfig {
    fn default() -> Self {
        Self { max_concurrent_requests: 4, buffer_size: 100 }
    }
}

/// Current state and counters of a [`StreamingComputationEngine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamingStatistics {
    /// Requests in the engine.
    pub active: usize,
    /// Requests waiting for a slot.
    pub waiting: usize,
    /// Requests that got a slot.
    pub submitted: u64,
    /// Requests with complete output.
    pub completed: u64,
    /// Requests that were refused, failed or missed their deadline.
    pub failed: u64,
    /// Requests that were cancelled, or whose reader was dropped.
    pub cancelled: u64,
    /// Output tokens.
    pub tokens: u64,
}

/// Continuous processing on one [`TextEngine`]: single requests with a callback, or streams over any number of prompts.
///
/// Clones share slots and counters; [`StreamingComputationEngine::with_own_slots`] shares the counters only.
///
/// ```no_run
/// use futures::StreamExt as _;
/// use videosdgx_text::TextEngine;
/// use videosdgx_text::streaming::{GenerateOptions, StreamingConfig, create_streaming_engine};
///
/// async fn print_lengths(engine: TextEngine) {
///     let streaming = create_streaming_engine(engine, StreamingConfig::default());
///     let mut results = streaming.generate_stream(vec!["one", "two"], GenerateOptions::default());
///     while let Some(result) = results.next().await {
///         println!("prompt {}: {:?}", result.index, result.output);
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct StreamingComputationEngine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: TextEngine,
    config: StreamingConfig,
    slots: Slots,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    active: AtomicUsize,
    submitted: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    tokens: AtomicU64,
}

/// Creates a [`StreamingComputationEngine`] on `engine`.
#[must_use]
pub fn create_streaming_engine(engine: TextEngine, config: StreamingConfig) -> StreamingComputationEngine {
    let slots = Slots::new(config.max_concurrent_requests);
    StreamingComputationEngine(Arc::new(Inner { engine, config, slots, counts: Arc::default() }))
}

impl StreamingComputationEngine {
    /// Generates the output of one prompt: `callback` receives each result, the future returns the complete output. The request is
    /// queued when the future is first polled; dropping the future cancels it.
    pub fn submit_stream_request(
        &self,
        request_id: impl Into<String>,
        data: impl Into<StreamInput>,
        options: GenerateOptions,
        mut callback: impl FnMut(&StreamResult) + Send + 'static,
    ) -> BoxFuture<'static, Result<StreamOutcome, SubmitError>> {
        let request = StreamRequest { request_id: request_id.into(), input: data.into(), options };
        let inner = Arc::clone(&self.0);
        async move {
            let slot = inner.slots.take(request.options.priority).await;
            let request_id = request.request_id.clone();
            let request = inner.prepare(request);
            let mut results = Box::pin(inner.results(slot, 0, request_id.clone(), request));
            let (mut text, mut error) = (String::new(), None);
            while let Some(result) = results.next().await {
                callback(&result);
                match result.output? {
                    StreamEvent::Token(token) => text.push_str(&token.text),
                    StreamEvent::Error(met) => error = (!met.recoverable).then_some(met).or(error),
                    StreamEvent::Completed(end) => return Ok(outcome(request_id, text, end, error)),
                }
            }
            Err(SubmitError::Draining)
        }
        .boxed()
    }

    /// Generates the outputs of prompts, at most `max_concurrent_requests` at the same time (over all streams with these slots). The
    /// next prompt of a lazy source is requested only when a slot is free.
    pub fn generate_stream(&self, prompts: impl Into<Prompts>, options: GenerateOptions) -> GenerateStream {
        let inner = Arc::clone(&self.0);
        let begun = STREAMS.fetch_add(1, Ordering::Relaxed);
        let source = prompts.into().into_stream();
        let jobs = stream::unfold((source, 0_usize), move |(mut source, index)| {
            let (inner, options) = (Arc::clone(&inner), options.clone());
            async move {
                let slot = inner.slots.take(options.priority).await;
                let input = source.next().await?;
                let request_id = format!("stream-{begun}-{index}");
                let request = StreamRequest { request_id: request_id.clone(), input, options };
                let request = inner.prepare(request);
                Some((Box::pin(inner.results(slot, index, request_id, request)), (source, index + 1)))
            }
        });
        GenerateStream::new(jobs.flatten_unordered(None))
    }

    /// Streams the results of one [`GenerationRequest`], with index 0. It waits for a slot like the prompts of
    /// [`StreamingComputationEngine::generate_stream`].
    pub fn stream_request(&self, request: GenerationRequest) -> GenerateStream {
        let inner = Arc::clone(&self.0);
        let results = async move {
            let slot = inner.slots.take(request.priority).await;
            let request_id = request.id.clone();
            inner.results(slot, 0, request_id, Ok(request))
        };
        GenerateStream::new(results.flatten_stream())
    }

    /// A handle with the same engine and counters but `max_concurrent_requests` slots of its own, so that a caller's many prompts do
    /// not delay those of others. The engine's queue is shared.
    #[must_use]
    pub fn with_own_slots(&self) -> Self {
        let Inner { engine, config, counts, .. } = &*self.0;
        let slots = Slots::new(config.max_concurrent_requests);
        Self(Arc::new(Inner { engine: engine.clone(), config: *config, slots, counts: Arc::clone(counts) }))
    }

    /// Current state and counters; `waiting` counts requests for this handle's slots only.
    #[must_use]
    pub fn statistics(&self) -> StreamingStatistics {
        let counts = &self.0.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StreamingStatistics {
            active: counts.active.load(Ordering::Relaxed),
            waiting: self.0.slots.waiting(),
            submitted: read(&counts.submitted),
            completed: read(&counts.completed),
            failed: read(&counts.failed),
            cancelled: read(&counts.cancelled),
            tokens: read(&counts.tokens),
        }
    }

    /// The underlying engine.
    #[must_use]
    pub fn engine(&self) -> &TextEngine {
        &self.0.engine
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> StreamingConfig {
        self.0.config
    }
}

impl Inner {
    /// Converts a request to a [`GenerationRequest`], encoding a text prompt.
    fn prepare(&self, request: StreamRequest) -> Result<GenerationRequest, SubmitError> {
        request.into_generation(|text| self.engine.language().encode(text))
    }

    /// The results of one request, which holds its slot until the last result.
    fn results(
        self: Arc<Self>,
        slot: Slot,
        index: usize,
        request_id: String,
        request: Result<GenerationRequest, SubmitError>,
    ) -> impl futures::Stream<Item = StreamResult> + Send + 'static {
        let active = Active::new(Arc::clone(&self), slot);
        stream::unfold(RequestState::Waiting(Box::new(request), active), move |state| {
            let (inner, request_id) = (Arc::clone(&self), request_id.clone());
            async move {
                let (mut events, mut active) = match state {
                    RequestState::Ended => return None,
                    RequestState::Waiting(request, mut active) => match inner.submit(*request).await {
                        Ok(events) => (events, active),
                        Err(refused) => {
                            active.end(|counts| &counts.failed);
                            return Some((
                                StreamResult { request_id, index, output: Err(refused) },
                                RequestState::Ended,
                            ));
                        }
                    },
                    RequestState::Running(events, active) => (events, active),
                };
                let event = events.next().await?;
                let next = match &event {
                    StreamEvent::Completed(end) => {
                        active.end(|counts| counts.of(end));
                        RequestState::Ended
                    }
                    StreamEvent::Token(_) => {
                        inner.counts.tokens.fetch_add(1, Ordering::Relaxed);
                        RequestState::Running(events, active)
                    }
                    StreamEvent::Error(_) => RequestState::Running(events, active),
                };
                Some((StreamResult { request_id, index, output: Ok(event) }, next))
            }
        })
    }

    /// Submits a request, waiting while the engine's queue is full: a request with a slot is not refused because of other callers.
    async fn submit(
        &self,
        request: Result<GenerationRequest, SubmitError>,
    ) -> Result<TokenStream, SubmitError> {
        let request = request?;
        let options = StreamOptions { buffer_size: Some(self.config.buffer_size) };
        loop {
            match self.engine.submit_with(request.clone(), options) {
                Err(SubmitError::QueueFull { .. }) => {
                    self.engine.wait_for_queue_space(&request.principal).await;
                }
                outcome => return outcome,
            }
        }
    }
}

enum RequestState {
    Waiting(Box<Result<GenerationRequest, SubmitError>>, Active),
    Running(TokenStream, Active),
    Ended,
}

/// A request with a slot. Counts how the request ends; as cancelled when it is dropped early.
struct Active {
    inner: Arc<Inner>,
    slot: Option<Slot>,
}

impl Active {
    fn new(inner: Arc<Inner>, slot: Slot) -> Self {
        inner.counts.active.fetch_add(1, Ordering::Relaxed);
        inner.counts.submitted.fetch_add(1, Ordering::Relaxed);
        Self { inner, slot: Some(slot) }
    }

    fn end(&mut self, count: impl FnOnce(&Counts) -> &AtomicU64) {
        if let Some(slot) = self.slot.take() {
            self.inner.counts.active.fetch_sub(1, Ordering::Relaxed);
            count(&self.inner.counts).fetch_add(1, Ordering::Relaxed);
            drop(slot);
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.end(|counts| &counts.cancelled);
    }
}

impl Counts {
    fn of(&self, end: &Completed) -> &AtomicU64 {
        use crate::FinishReason::{Cancelled, Deadline, Error, Length, Stop};
        match end.reason {
            Stop | Length => &self.completed,
            Cancelled => &self.cancelled,
            Deadline | Error => &self.failed,
        }
    }
}

fn outcome(
    request_id: String,
    mut text: String,
    end: Completed,
    error: Option<StreamError>,
) -> StreamOutcome {
    text.push_str(&end.text);
    StreamOutcome { request_id, text, reason: end.reason, usage: end.usage, summary: end.summary, error }
}
