//! The public handle of the engine.

use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Instant;

use futures::future::{BoxFuture, FutureExt as _};
use videosdgx_model::{Load, ModelLoader};
use videosdgx_threads::spawn_vital;

use super::delivery::{Delivery, Message, StreamSink};
use super::sequence_state::SequenceState;
use super::shared::Shared;
use super::stream::EventBuffer;
use super::{
    EngineConfig, EngineHooks, EngineSnapshot, Language, PrefixSharing, StreamOptions, SubmitError,
    TokenStream, driver, validate,
};
use crate::sampler::Sampler;
use crate::scheduler::{QueueFull, SequenceSpec};
use crate::telemetry::StreamingTelemetryCollector;
use crate::{ErrorCode, FinishReason, GenerationRequest};
use videosdgx_decoder_api::Decoder;

/// Generates text for many callers with one model, batching their sequences into common steps.
///
/// Clones are handles to the same engine. Its threads end once the last handle is dropped and all streams have ended.
///
/// ```no_run
/// use futures::StreamExt as _;
/// use videosdgx_text::{GenerationRequest, Prompt, StreamEvent, SubmitError, TextEngine};
///
/// async fn generate(engine: &TextEngine) -> Result<String, SubmitError> {
///     let tokens = engine.language().encode("Once upon a time").expect("valid text");
///     let mut stream = engine.submit(GenerationRequest {
///         id: "example".to_owned(),
///         prompt: Prompt { tokens, images: Vec::new() },
///         ..GenerationRequest::default()
///     })?;
///     let mut text = String::new();
///     while let Some(event) = stream.next().await {
///         match event {
///             StreamEvent::Token(token) => text += &token.text,
///             StreamEvent::Completed(completed) => text += &completed.text,
///             StreamEvent::Error(error) => eprintln!("{}", error.message),
///         }
///     }
///     Ok(text)
/// }
/// ```
#[derive(Clone)]
pub struct TextEngine(Arc<Handle>);

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        let mut core = self.0.lock();
        core.closed = true;
        self.0.release(core);
    }
}

impl TextEngine {
    /// Starts the engine's two threads. The model is loaded on the first request.
    ///
    /// # Errors
    /// When a thread cannot be spawned.
    pub fn start<L>(
        loader: ModelLoader<L>,
        config: EngineConfig,
        language: Arc<dyn Language>,
        telemetry: StreamingTelemetryCollector,
    ) -> std::io::Result<Self>
    where
        L: Load,
        L::Model: Decoder,
    {
        Self::start_with(loader, config, language, telemetry, EngineHooks::default())
    }

    /// As [`TextEngine::start`], with custom hooks to the machine.
    ///
    /// # Errors
    /// When a thread cannot be spawned.
    pub fn start_with<L>(
        loader: ModelLoader<L>,
        mut config: EngineConfig,
        language: Arc<dyn Language>,
        telemetry: StreamingTelemetryCollector,
        hooks: EngineHooks,
    ) -> std::io::Result<Self>
    where
        L: Load,
        L::Model: Decoder,
    {
        if config.batch.device_memory.is_none() {
            config.batch.device_memory = hooks.memory.memory().map(|memory| memory.total);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the inference thread must not wait for delivery; streams are bounded by their own buffers"
        )]
        let (sender, messages) = mpsc::channel();
        let name = config.model.clone();
        let shared = Arc::new(Shared::new(config, hooks, language, telemetry, sender));
        let delivery = Delivery::new(Arc::clone(&shared));
        spawn_vital(format!("delivery-{name}"), move || delivery.run(&messages))?;
        let driven = Arc::clone(&shared);
        spawn_vital(format!("driver-{name}"), move || driver::run(&driven, &loader))?;
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Queues a request without waiting. Compiling a constraint may take long, so submit requests with a constraint from a thread
    /// that may block.
    ///
    /// # Errors
    /// When the request is refused; see [`SubmitError`].
    pub fn submit(&self, request: GenerationRequest) -> Result<TokenStream, SubmitError> {
        self.submit_with(request, StreamOptions::default())
    }

    /// As [`TextEngine::submit`], with options for the stream.
    ///
    /// # Errors
    /// As [`TextEngine::submit`].
    pub fn submit_with(
        &self,
        request: GenerationRequest,
        options: StreamOptions,
    ) -> Result<TokenStream, SubmitError> {
        let shared = self.shared();
        let config = &shared.config;
        let vocab = shared.language.vocab();
        validate::check(&request, vocab, config.max_context)?;
        // Checked again under the lock below; here it spares the work for a request that is refused anyway.
        shared.lock().check_acceptable(&request.id)?;
        let matcher = match &request.constraint {
            None => None,
            Some(constraint) => Some(shared.language.matcher(constraint).map_err(SubmitError::Constraint)?),
        };
        let GenerationRequest { id, principal, prompt, sampling, stop, logprobs, priority, deadline, .. } =
            request;
        let seed = sampling.seed.unwrap_or_else(random_seed);
        let buffer = Arc::new(EventBuffer::new(options.buffer_size.unwrap_or(config.buffer_size)));
        let sink = Box::new(StreamSink {
            buffer: Arc::clone(&buffer),
            text: shared.language.text_decoder(&prompt.tokens, &stop.strings),
            recorder: shared.telemetry.open(&id, Instant::now()),
            prompt_tokens: prompt.tokens.len(),
            cached_tokens: 0,
        });
        let state = SequenceState {
            sampler: Sampler::new(sampling, seed, vocab, logprobs, &prompt.tokens),
            matcher,
            stop,
            position: 0,
        };
        let max_tokens = state.stop.max_tokens.min(config.max_context - prompt.tokens.len());
        let now = shared.now();
        let spec = SequenceSpec {
            salt: match config.prefix_sharing {
                PrefixSharing::All => String::new(),
                PrefixSharing::PerPrincipal => format!("principal {principal}"),
                PrefixSharing::Off => format!("request {id} {:016x}", random_seed()),
            },
            principal,
            priority,
            tokens: prompt.tokens,
            images: prompt.images,
            max_tokens,
            deadline: deadline.or(config.default_deadline).map(|deadline| now.saturating_add(deadline)),
        };
        let mut core = shared.lock();
        core.check_acceptable(&id)?;
        let seq = match core.scheduler.submit(now, spec) {
            Ok(seq) => seq,
            Err(full) => {
                core.counts.refused += 1;
                shared.telemetry.metrics().refused.inc();
                return Err(queue_full(full));
            }
        };
        core.counts.requests += 1;
        core.insert(seq, id.clone(), state);
        shared.stream_opened();
        // Under the lock, so that the delivery thread gets this message before the stream's first token.
        shared.send(Message::Open(seq, sink));
        shared.release(core);
        let owner = Arc::clone(shared);
        Ok(TokenStream::new(id, seq, buffer, owner))
    }

    /// Resolves when the queue has space for a request of this principal or the engine is draining. Another caller may take the space
    /// first.
    pub fn wait_for_queue_space(&self, principal: &str) -> BoxFuture<'static, ()> {
        let (shared, principal) = (Arc::clone(self.shared()), principal.to_owned());
        poll_fn(move |context| {
            let has_space = shared.lock().has_queue_space(&principal, context.waker());
            if has_space { Poll::Ready(()) } else { Poll::Pending }
        })
        .boxed()
    }

    /// Fails as [`TextEngine::submit`] would while the queue, or the principal's share of it, is full: such a request need not be
    /// prepared.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`].
    pub fn check_queue(&self, principal: &str) -> Result<(), SubmitError> {
        let shared = self.shared();
        let mut core = shared.lock();
        let Some(full) = core.scheduler.full_for(principal) else { return Ok(()) };
        core.counts.refused += 1;
        shared.telemetry.metrics().refused.inc();
        Err(queue_full(full))
    }

    /// Ends a stream with [`crate::FinishReason::Cancelled`]; `false` when no active stream has this id.
    pub fn cancel(&self, id: &str) -> bool {
        let shared = self.shared();
        let Some(seq) = shared.lock().find(id) else { return false };
        let was_active = shared.remove(seq);
        if was_active {
            shared.send(Message::End { seq, reason: FinishReason::Cancelled, error: None });
        }
        was_active
    }

    /// Current state and counters.
    #[must_use]
    pub fn snapshot(&self) -> EngineSnapshot {
        self.shared().lock().snapshot()
    }

    /// Refuses new requests from now on; resolves when all streams have ended.
    pub fn drain(&self) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(self.shared());
        start_draining(&shared);
        poll_fn(
            move |context| {
                if shared.is_drained(context.waker()) { Poll::Ready(()) } else { Poll::Pending }
            },
        )
        .boxed()
    }

    /// Refuses new requests from now on, and ends all streams with the error `draining`.
    pub fn abort(&self) {
        let shared = self.shared();
        start_draining(shared);
        shared.fail_all(ErrorCode::Draining, "the service is shutting down, connect again");
    }

    /// The engine's configuration.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.shared().config
    }

    /// Tokenizer and constraints of the checkpoint.
    #[must_use]
    pub fn language(&self) -> &Arc<dyn Language> {
        &self.shared().language
    }

    /// Latencies, throughput and errors of the streams.
    #[must_use]
    pub fn telemetry(&self) -> &StreamingTelemetryCollector {
        &self.shared().telemetry
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

fn start_draining(shared: &Shared) {
    let wakers = shared.lock().start_draining();
    for waker in wakers {
        waker.wake();
    }
}

fn queue_full(full: QueueFull) -> SubmitError {
    SubmitError::QueueFull { waiting: full.waiting, share: full.share, retry_after: full.retry_after }
}

/// From the system's random source, by way of the standard library's hash keys.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl fmt::Debug for TextEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextEngine").field("model", &self.config().model).finish_non_exhaustive()
    }
}
