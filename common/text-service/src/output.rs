//! The output of one answer: the engine's events, parsed into reasoning, content and tool calls.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use videosdgx_api::openai;
use videosdgx_text::{
    Completed, FinishReason, OutputDelta, OutputParser, StreamError, StreamEvent, TokenLogprob, TokenStream,
};

use crate::metrics::TextMetrics;

/// An event of one output.
#[derive(Debug)]
pub(crate) enum OutputEvent {
    /// A token, and the text that can be shown now.
    Token(OutputToken),
    /// An error; after a recoverable one the output continues.
    Error(StreamError),
    /// The end, with text that was held back until now.
    End(Box<OutputEnd>),
}

/// A token of output.
#[derive(Debug)]
pub(crate) struct OutputToken {
    pub(crate) id: u32,
    /// Number of the token in the output, from 0.
    pub(crate) position: usize,
    /// Time since the previous token; for the first, since submission.
    pub(crate) latency: Duration,
    pub(crate) logprob: Option<TokenLogprob>,
    pub(crate) delta: OutputDelta,
}

/// The end of an output.
#[derive(Debug)]
pub(crate) struct OutputEnd {
    pub(crate) delta: OutputDelta,
    pub(crate) completed: Completed,
    /// The output contains a tool call.
    pub(crate) has_tool_calls: bool,
}

impl OutputEnd {
    /// OpenAI's finish reason; None: an error, a deadline or a cancellation ended the output.
    pub(crate) fn finish_reason(&self) -> Option<openai::FinishReason> {
        match self.completed.reason {
            FinishReason::Stop if self.has_tool_calls => Some(openai::FinishReason::ToolCalls),
            FinishReason::Stop => Some(openai::FinishReason::Stop),
            FinishReason::Length => Some(openai::FinishReason::Length),
            FinishReason::Cancelled | FinishReason::Deadline | FinishReason::Error => None,
        }
    }
}

/// Parses the engine's events of one output. Dropping it before the end counts the output as cancelled.
#[derive(Debug)]
pub(crate) struct OutputReader {
    parser: Option<OutputParser>,
    stop_strings: Vec<String>,
    metrics: TextMetrics,
    ended: bool,
}

impl OutputReader {
    /// Without a parser all text is content. `stop_strings`: the caller's; only these are reported when matched.
    pub(crate) fn new(parser: Option<OutputParser>, stop_strings: Vec<String>, metrics: TextMetrics) -> Self {
        Self { parser, stop_strings, metrics, ended: false }
    }

    pub(crate) fn read(&mut self, event: StreamEvent) -> OutputEvent {
        match event {
            StreamEvent::Token(token) => OutputEvent::Token(OutputToken {
                id: token.id,
                position: token.position,
                latency: token.latency,
                logprob: token.logprob,
                delta: self.parse(token.text),
            }),
            StreamEvent::Error(error) => OutputEvent::Error(error),
            StreamEvent::Completed(mut completed) => {
                self.count_end(completed.reason);
                // Most outputs end by the model's end token, which is not one of the caller's stop strings.
                completed.matched = completed.matched.filter(|matched| self.stop_strings.contains(matched));
                let mut delta = self.parse(std::mem::take(&mut completed.text));
                let mut has_tool_calls = false;
                if let Some(parser) = &mut self.parser {
                    let rest = parser.finish();
                    delta.content.push_str(&rest.content);
                    delta.reasoning.push_str(&rest.reasoning);
                    delta.tool_calls.extend(rest.tool_calls);
                    has_tool_calls = parser.has_tool_calls();
                }
                OutputEvent::End(Box::new(OutputEnd { delta, completed, has_tool_calls }))
            }
        }
    }

    fn parse(&mut self, text: String) -> OutputDelta {
        match &mut self.parser {
            Some(parser) => parser.push(&text),
            None => OutputDelta { content: text, ..OutputDelta::default() },
        }
    }

    fn count_end(&mut self, reason: FinishReason) {
        if !std::mem::replace(&mut self.ended, true) {
            self.metrics.count_end(reason);
        }
    }
}

impl Drop for OutputReader {
    fn drop(&mut self) {
        self.count_end(FinishReason::Cancelled);
    }
}

/// Events of one answer, each with the answer's index. Dropping it cancels the generation within a step.
#[derive(Debug)]
pub(crate) struct OutputStream {
    index: u32,
    events: TokenStream,
    reader: OutputReader,
}

impl OutputStream {
    pub(crate) fn new(index: u32, events: TokenStream, reader: OutputReader) -> Self {
        Self { index, events, reader }
    }

    /// Its id in the engine.
    pub(crate) fn engine_id(&self) -> &str {
        self.events.id()
    }
}

impl Stream for OutputStream {
    type Item = (u32, OutputEvent);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<(u32, OutputEvent)>> {
        let event = std::task::ready!(Pin::new(&mut self.events).poll_next(context));
        Poll::Ready(event.map(|event| (self.index, self.reader.read(event))))
    }
}
