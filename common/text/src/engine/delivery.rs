//! The delivery thread: turns tokens into text and sends events to the streams' buffers while the inference thread computes the
//! next step.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::core::end_report;
use super::sequence_state::SampledToken;
use super::shared::Shared;
use super::stream::EventBuffer;
use super::{TextDecoder, TextPiece};
use crate::controllers::DeliveryMode;
use crate::sampler::with_bytes;
use crate::scheduler::{EndedSequence, SeqId};
use crate::telemetry::StreamRecorder;
use crate::{Completed, ErrorCode, FinishReason, StreamError, StreamEvent, TokenEvent, Usage};

/// Maximum number of messages handled before readers are woken, in transfer-focused mode.
const MAX_BATCHED_MESSAGES: usize = 32;

/// Messages to the delivery thread, in the order of the events they report.
pub(super) enum Message {
    /// A stream starts.
    Open(SeqId, Box<StreamSink>),
    /// Tokens of one step.
    Tokens {
        /// When they were sampled.
        at: Instant,
        /// Number of sequences in the step.
        batch: usize,
        tokens: Vec<TokenOut>,
    },
    /// A step with these sequences failed and succeeded on a retry.
    Recovered { seqs: Vec<SeqId>, message: String },
    /// A stream ends, possibly with an error.
    End { seq: SeqId, reason: FinishReason, error: Option<(ErrorCode, String)> },
    /// The stream's reader was dropped.
    ReaderDropped(SeqId),
    /// No further messages follow.
    Close,
}

/// A token of one stream.
pub(super) struct TokenOut {
    pub(super) seq: SeqId,
    pub(super) sampled: SampledToken,
    pub(super) cached_tokens: usize,
}

impl Message {
    pub(super) fn failed(seq: SeqId, code: ErrorCode, message: String) -> Self {
        Self::End { seq, reason: FinishReason::Error, error: Some((code, message)) }
    }

    pub(super) fn ended(ended: EndedSequence) -> Self {
        let (reason, code, message) = end_report(ended.cause);
        Self::End { seq: ended.seq, reason, error: Some((code, message.to_owned())) }
    }
}

/// The writing end of one stream.
pub(super) struct StreamSink {
    pub(super) buffer: Arc<EventBuffer>,
    pub(super) text: Box<dyn TextDecoder>,
    pub(super) recorder: StreamRecorder,
    pub(super) prompt_tokens: usize,
    pub(super) cached_tokens: usize,
}

impl StreamSink {
    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            completion_tokens: self.recorder.tokens(),
        }
    }

    /// Finishes the recorder and returns the last event.
    fn complete(
        self,
        reason: FinishReason,
        text: String,
        matched: Option<String>,
    ) -> (Arc<EventBuffer>, StreamEvent) {
        let usage = self.usage();
        let summary = self.recorder.finish(reason, usage);
        (self.buffer, StreamEvent::Completed(Completed { reason, text, matched, usage, summary }))
    }
}

/// Replaces a text decoder that panicked.
struct NullTextDecoder;

impl TextDecoder for NullTextDecoder {
    fn push(&mut self, _id: u32) -> TextPiece {
        TextPiece::default()
    }

    fn finish(&mut self) -> String {
        String::new()
    }
}

/// State of the delivery thread.
pub(super) struct Delivery {
    shared: Arc<Shared>,
    sinks: HashMap<SeqId, Box<StreamSink>>,
    wakers: Vec<Waker>,
}

impl Delivery {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, sinks: HashMap::new(), wakers: Vec::new() }
    }

    /// Runs until the engine is closed and its streams have ended.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = match self.next(messages) {
                Some(message) => message,
                None => {
                    self.expire();
                    continue;
                }
            };
            let begun = Instant::now();
            self.shared.delivering.store(true, Ordering::Relaxed);
            let tokens = matches!(message, Message::Tokens { .. });
            let mut running = self.handle(message);
            if tokens && self.shared.lock().optimizer.mode() == DeliveryMode::TransferFocused {
                // Delivery is the bottleneck: handle all pending messages, then wake each reader once.
                for message in messages.try_iter().take(MAX_BATCHED_MESSAGES) {
                    running &= self.handle(message);
                }
            }
            for waker in self.wakers.drain(..) {
                waker.wake();
            }
            self.shared.delivering.store(false, Ordering::Relaxed);
            if tokens {
                self.shared.lock().optimizer.record_delivery(begun.elapsed());
            }
            if !running {
                return;
            }
        }
    }

    /// The next message; `None` when a deadline or a reader's timeout expires first.
    fn next(&self, messages: &Receiver<Message>) -> Option<Message> {
        let due = self.shared.lock().scheduler.next_expiry();
        let received = match due {
            None => return Some(messages.recv().unwrap_or(Message::Close)),
            Some(due) => {
                // Rounded up: waking before the expiry would loop without waiting.
                let wait = due.saturating_sub(self.shared.now()) + Duration::from_millis(1);
                messages.recv_timeout(wait)
            }
        };
        match received {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Close),
        }
    }

    /// Handles one message; `false` after [`Message::Close`].
    fn handle(&mut self, message: Message) -> bool {
        match message {
            Message::Open(seq, sink) => {
                self.sinks.insert(seq, sink);
            }
            Message::Tokens { at, batch, tokens } => {
                for token in tokens {
                    self.guarded(token.seq, |this| this.token(at, batch, token));
                }
                self.shared.tokens_delivered();
            }
            Message::Recovered { seqs, message } => {
                for seq in seqs {
                    self.error(seq, ErrorCode::StepFailed, message.clone(), true);
                }
            }
            Message::End { seq, reason, error } => {
                self.guarded(seq, |this| {
                    if let Some((code, message)) = error {
                        this.error(seq, code, message, false);
                    }
                    this.end(seq, reason, None);
                });
            }
            Message::ReaderDropped(seq) => {
                if let Some(sink) = self.sinks.remove(&seq) {
                    sink.complete(FinishReason::Cancelled, String::new(), None);
                    self.shared.stream_closed();
                }
            }
            Message::Close => return false,
        }
        true
    }

    /// Runs `work` for one stream. A panic (of the tokenizer's side) ends this stream only.
    fn guarded(&mut self, seq: SeqId, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_ok() {
            return;
        }
        tracing::error!(model = self.shared.config.model, "text_decoder_panicked");
        self.shared.remove(seq);
        if let Some(sink) = self.sinks.get_mut(&seq) {
            sink.text = Box::new(NullTextDecoder);
        }
        self.error(seq, ErrorCode::StepFailed, "the token could not be decoded to text".to_owned(), false);
        self.end(seq, FinishReason::Error, None);
    }

    fn token(&mut self, at: Instant, batch: usize, token: TokenOut) {
        let TokenOut { seq, sampled, cached_tokens } = token;
        // A missing stream has already ended: by a stop string, or because its reader was dropped.
        let Some(sink) = self.sinks.get_mut(&seq) else { return };
        sink.cached_tokens = cached_tokens;
        if sampled.hidden {
            let matched = self.shared.language.token_bytes(sampled.id);
            self.end(seq, FinishReason::Stop, Some(String::from_utf8_lossy(&matched).into_owned()));
            return;
        }
        let piece = sink.text.push(sampled.id);
        let position = sink.recorder.tokens();
        let latency = sink.recorder.token(at, batch);
        let language = &self.shared.language;
        let logprob = sampled.logprobs.map(|row| with_bytes(row, |id| language.token_bytes(id)));
        let event = TokenEvent { id: sampled.id, text: piece.text, position, latency, logprob };
        self.push(seq, StreamEvent::Token(event));
        if let Some(stop) = piece.stop {
            self.shared.remove(seq);
            self.finish(seq, FinishReason::Stop, String::new(), Some(stop));
        } else if let Some(reason) = sampled.end {
            self.end(seq, reason, None);
        }
    }

    fn error(&mut self, seq: SeqId, code: ErrorCode, message: String, recoverable: bool) {
        let Some(sink) = self.sinks.get_mut(&seq) else { return };
        let position = sink.recorder.tokens();
        sink.recorder.error(code, recoverable);
        self.push(seq, StreamEvent::Error(StreamError { code, message, recoverable, position }));
    }

    /// Ends a stream, with the text held back so far.
    fn end(&mut self, seq: SeqId, reason: FinishReason, matched: Option<String>) {
        let Some(sink) = self.sinks.get_mut(&seq) else { return };
        let text = sink.text.finish();
        self.finish(seq, reason, text, matched);
    }

    fn finish(&mut self, seq: SeqId, reason: FinishReason, text: String, matched: Option<String>) {
        let Some(sink) = self.sinks.remove(&seq) else { return };
        let (buffer, event) = sink.complete(reason, text, matched);
        self.wakers.extend(buffer.push(event, || {}));
        self.shared.stream_closed();
    }

    fn push(&mut self, seq: SeqId, event: StreamEvent) {
        let Some(sink) = self.sinks.get(&seq) else { return };
        let shared = &self.shared;
        let waker = sink.buffer.push(event, || {
            let mut core = shared.lock();
            core.scheduler.reader_slow(shared.now(), seq);
            core.fell_behind += 1;
            shared.release(core);
        });
        self.wakers.extend(waker);
    }

    fn expire(&mut self) {
        for ended in self.shared.expire() {
            self.handle(Message::ended(ended));
        }
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}
