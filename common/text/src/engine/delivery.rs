//! The thread that turns tokens into text and hands events on, while the inference thread computes the next step already.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::core::ending;
use super::sequence_state::Chosen;
use super::shared::Shared;
use super::stream::EventBuffer;
use super::{TextDecoder, TextPiece};
use crate::controllers::DeliveryMode;
use crate::sampler::with_bytes;
use crate::scheduler::{Ended, SeqId};
use crate::telemetry::StreamRecorder;
use crate::{Completed, ErrorCode, FinishReason, StreamError, StreamEvent, TokenEvent, Usage};

/// Most messages that are handed on together.
const TOGETHER: usize = 32;

/// To the delivery thread, in the order in which things happened.
pub(super) enum Message {
    /// A stream begins.
    Open(SeqId, Box<StreamSink>),
    /// Tokens of one step.
    Tokens {
        /// When they were chosen.
        at: Instant,
        /// Sequences in the step.
        batch: usize,
        tokens: Vec<TokenOut>,
    },
    /// A step failed and succeeded when tried again.
    Recovered { seqs: Vec<SeqId>, message: String },
    /// A stream ends, with the error that ends it.
    End { seq: SeqId, reason: FinishReason, error: Option<(ErrorCode, String)> },
    /// Its reader is gone.
    Left(SeqId),
    /// There will be no more messages.
    Close,
}

/// A token of one stream.
pub(super) struct TokenOut {
    pub(super) seq: SeqId,
    pub(super) chosen: Chosen,
    pub(super) cached_tokens: usize,
}

impl Message {
    pub(super) fn failed(seq: SeqId, code: ErrorCode, message: String) -> Self {
        Self::End { seq, reason: FinishReason::Error, error: Some((code, message)) }
    }

    pub(super) fn ended(ended: Ended) -> Self {
        let (reason, code, message) = ending(ended.by);
        Self::End { seq: ended.seq, reason, error: Some((code, message.to_owned())) }
    }
}

/// The delivery thread's end of one stream.
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

    /// Sums up and gives the last event.
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

/// Instead of a text decoder that failed.
struct Silent;

impl TextDecoder for Silent {
    fn push(&mut self, _id: u32) -> TextPiece {
        TextPiece::default()
    }

    fn finish(&mut self) -> String {
        String::new()
    }
}

/// The thread's state.
pub(super) struct Delivery {
    shared: Arc<Shared>,
    sinks: HashMap<SeqId, Box<StreamSink>>,
    wakers: Vec<Waker>,
}

impl Delivery {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, sinks: HashMap::new(), wakers: Vec::new() }
    }

    /// Works until the engine is closed and its streams have ended.
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
            let mut goes_on = self.handle(message);
            if tokens && self.shared.lock().optimizer.mode() == DeliveryMode::TransferFocused {
                // Delivering is what takes long: hand on what has gathered, and wake each reader once.
                for message in messages.try_iter().take(TOGETHER) {
                    goes_on &= self.handle(message);
                }
            }
            for waker in self.wakers.drain(..) {
                waker.wake();
            }
            self.shared.delivering.store(false, Ordering::Relaxed);
            if tokens {
                self.shared.lock().optimizer.record_delivery(begun.elapsed());
            }
            if !goes_on {
                return;
            }
        }
    }

    /// The next message; `None` when something is due to be ended first.
    fn next(&self, messages: &Receiver<Message>) -> Option<Message> {
        let due = self.shared.lock().scheduler.next_expiry();
        let received = match due {
            None => return Some(messages.recv().unwrap_or(Message::Close)),
            Some(due) => {
                // A hair late rather than a hair early, or it would look again at once.
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

    /// Whether it goes on.
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
            Message::Left(seq) => {
                if let Some(sink) = self.sinks.remove(&seq) {
                    sink.complete(FinishReason::Cancelled, String::new(), None);
                    self.shared.stream_closed();
                }
            }
            Message::Close => return false,
        }
        true
    }

    /// A fault in the tokenizer's side ends the stream that met it, and not all others with it.
    fn guarded(&mut self, seq: SeqId, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_ok() {
            return;
        }
        tracing::error!(model = self.shared.config.model, "text_decoder_panicked");
        self.shared.remove(seq);
        if let Some(sink) = self.sinks.get_mut(&seq) {
            sink.text = Box::new(Silent);
        }
        self.error(seq, ErrorCode::StepFailed, "the token could not be made text".to_owned(), false);
        self.end(seq, FinishReason::Error, None);
    }

    fn token(&mut self, at: Instant, batch: usize, token: TokenOut) {
        let TokenOut { seq, chosen, cached_tokens } = token;
        // Who is not there has ended already, by a stop string or by leaving.
        let Some(sink) = self.sinks.get_mut(&seq) else { return };
        sink.cached_tokens = cached_tokens;
        if chosen.hidden {
            let matched = self.shared.language.token_bytes(chosen.id);
            self.end(seq, FinishReason::Stop, Some(String::from_utf8_lossy(&matched).into_owned()));
            return;
        }
        let piece = sink.text.push(chosen.id);
        let position = sink.recorder.tokens();
        let latency = sink.recorder.token(at, batch);
        let language = &self.shared.language;
        let logprob = chosen.logprobs.map(|row| with_bytes(row, |id| language.token_bytes(id)));
        let event = TokenEvent { id: chosen.id, text: piece.text, position, latency, logprob };
        self.push(seq, StreamEvent::Token(event));
        if let Some(stop) = piece.stop {
            self.shared.remove(seq);
            self.finish(seq, FinishReason::Stop, String::new(), Some(stop));
        } else if let Some(reason) = chosen.end {
            self.end(seq, reason, None);
        }
    }

    fn error(&mut self, seq: SeqId, code: ErrorCode, message: String, recoverable: bool) {
        let Some(sink) = self.sinks.get_mut(&seq) else { return };
        let position = sink.recorder.tokens();
        sink.recorder.error(code, recoverable);
        self.push(seq, StreamEvent::Error(StreamError { code, message, recoverable, position }));
    }

    /// Ends a stream, with the text that was held back.
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
