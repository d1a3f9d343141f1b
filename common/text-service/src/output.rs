//! One output as it grows: the engine's events, taken apart into thoughts, content and calls of tools.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use videosdgx_text::{
    Completed, FinishReason, OutputDelta, OutputParser, StreamError, StreamEvent, TokenLogprob, TokenStream,
};

use crate::metrics::TextMetrics;

/// What came of one output.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A token, and the text that can be shown now.
    Token(Token),
    /// Something went wrong; when recoverable, the output goes on.
    Error(StreamError),
    /// The end, with what was held back.
    End(Box<End>),
}

/// A token.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) position: usize,
    pub(crate) latency: Duration,
    pub(crate) logprob: Option<TokenLogprob>,
    pub(crate) delta: OutputDelta,
}

/// The end of an output.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) delta: OutputDelta,
    pub(crate) completed: Completed,
    /// Whether a call of a tool was read.
    pub(crate) called: bool,
}

/// Reads the events of one output.
#[derive(Debug)]
pub(crate) struct Reader {
    parser: Option<OutputParser>,
    stops: Vec<String>,
    metrics: TextMetrics,
    ended: bool,
}

impl Reader {
    /// Without a parser all text is content. `stops`: the caller's, of which the one that was met is told.
    pub(crate) fn new(parser: Option<OutputParser>, stops: Vec<String>, metrics: TextMetrics) -> Self {
        Self { parser, stops, metrics, ended: false }
    }

    /// What an event is.
    pub(crate) fn piece(&mut self, event: StreamEvent) -> Piece {
        match event {
            StreamEvent::Token(token) => Piece::Token(Token {
                id: token.id,
                position: token.position,
                latency: token.latency,
                logprob: token.logprob,
                delta: self.parse(token.text),
            }),
            StreamEvent::Error(error) => Piece::Error(error),
            StreamEvent::Completed(mut completed) => {
                self.end(completed.reason);
                // The end token is met by most answers, and is nobody's stop string.
                completed.matched = completed.matched.filter(|met| self.stops.contains(met));
                let mut delta = self.parse(std::mem::take(&mut completed.text));
                let mut called = false;
                if let Some(parser) = &mut self.parser {
                    let rest = parser.finish();
                    delta.content.push_str(&rest.content);
                    delta.reasoning.push_str(&rest.reasoning);
                    delta.tool_calls.extend(rest.tool_calls);
                    called = parser.has_tool_calls();
                }
                Piece::End(Box::new(End { delta, completed, called }))
            }
        }
    }

    fn parse(&mut self, text: String) -> OutputDelta {
        match &mut self.parser {
            Some(parser) => parser.push(&text),
            None => OutputDelta { content: text, ..OutputDelta::default() },
        }
    }

    fn end(&mut self, reason: FinishReason) {
        if !std::mem::replace(&mut self.ended, true) {
            self.metrics.ended(reason);
        }
    }
}

/// Whoever stops reading has cancelled.
impl Drop for Reader {
    fn drop(&mut self) {
        self.end(FinishReason::Cancelled);
    }
}

/// An output that grows. Dropping it frees its place in the engine within a step.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) index: u32,
    events: TokenStream,
    reader: Reader,
}

impl Output {
    pub(crate) fn new(index: u32, events: TokenStream, reader: Reader) -> Self {
        Self { index, events, reader }
    }

    /// Its name in the engine.
    pub(crate) fn id(&self) -> &str {
        self.events.id()
    }
}

impl Stream for Output {
    type Item = (u32, Piece);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<(u32, Piece)>> {
        let event = std::task::ready!(Pin::new(&mut self.events).poll_next(context));
        Poll::Ready(event.map(|event| (self.index, self.reader.piece(event))))
    }
}
