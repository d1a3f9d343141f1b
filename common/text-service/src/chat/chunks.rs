//! A chat completion as chunks in server-sent events.

use actix_web::web::Bytes;
use futures::{Stream, StreamExt as _, stream};
use videosdgx_api::openai::{
    CallKind, ChatChunk, ChatChunkChoice, Delta, FinishReason, FunctionDelta, TokenLogprob, ToolCallDelta,
    Usage,
};
use videosdgx_text::OutputDelta;

use crate::{
    errors, logprobs,
    output::OutputEvent,
    response::{ResponseHeader, UsageCounter},
    sse,
};

/// Optional contents of the chunks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkOptions {
    pub(crate) logprobs: bool,
    pub(crate) usage: bool,
    /// More than one tool call per answer.
    pub(crate) parallel_tool_calls: bool,
    /// The answer may begin with a tool call: then its first chunk has no text, which is known with its first part.
    pub(crate) tools: bool,
}

/// Encodes output events as chunks.
#[derive(Debug)]
pub(crate) struct ChunkEncoder {
    header: ResponseHeader,
    options: ChunkOptions,
    usage: UsageCounter,
    /// Per answer: log-probabilities of tokens whose text is held back.
    logprobs: Vec<Vec<TokenLogprob>>,
    /// Per answer: its chunk with the role was sent.
    begun: Vec<bool>,
    /// Answers that have not ended.
    open: usize,
}

impl ChunkEncoder {
    pub(crate) fn new(header: ResponseHeader, options: ChunkOptions, answers: usize) -> Self {
        Self {
            header,
            options,
            usage: UsageCounter::default(),
            logprobs: (0..answers).map(|_| Vec::new()).collect(),
            begun: vec![!options.tools; answers],
            open: answers,
        }
    }

    /// The first chunk of each answer that begins with text.
    pub(crate) fn begin(&self) -> Vec<Bytes> {
        let begun = (0_u32..).zip(&self.begun).filter(|(_, begun)| **begun);
        begun.map(|(index, _)| self.chunk(index, first_delta(), Vec::new(), None)).collect()
    }

    /// The chunks of an event.
    pub(crate) fn encode(&mut self, index: u32, event: OutputEvent) -> Vec<Bytes> {
        let mut out = Vec::new();
        match event {
            OutputEvent::Token(token) => {
                self.usage.add_token(&token.delta);
                if self.options.logprobs {
                    let token = token.logprob.as_ref().map(logprobs::chat_token);
                    self.held_logprobs(index).extend(token);
                }
                self.push_delta(index, token.delta, &mut out);
            }
            OutputEvent::Error(error) if error.recoverable => {
                out.push(sse::comment(&errors::chunk_error(&error)))
            }
            OutputEvent::Error(error) => out.push(sse::data(&errors::chunk_error(&error))),
            OutputEvent::End(mut end) => {
                self.usage.add_answer(index, &end.completed.usage);
                self.open = self.open.saturating_sub(1);
                self.push_delta(index, std::mem::take(&mut end.delta), &mut out);
                if let Some(reason) = end.finish_reason() {
                    if self.is_first(index) {
                        out.push(self.chunk(index, first_delta(), Vec::new(), None));
                    }
                    let held = std::mem::take(self.held_logprobs(index));
                    out.push(self.chunk(index, Delta::default(), held, Some(reason)));
                }
                if self.open == 0 {
                    out.extend(self.usage_chunk());
                    out.push(sse::done());
                }
            }
        }
        out
    }

    fn held_logprobs(&mut self, index: u32) -> &mut Vec<TokenLogprob> {
        let index = index as usize;
        if self.logprobs.len() <= index {
            self.logprobs.resize_with(index + 1, Vec::new);
        }
        &mut self.logprobs[index]
    }

    /// Whether nothing of this answer was sent yet; from now on something is.
    fn is_first(&mut self, index: u32) -> bool {
        self.begun.get_mut(index as usize).is_some_and(|begun| !std::mem::replace(begun, true))
    }

    fn push_delta(&mut self, index: u32, delta: OutputDelta, out: &mut Vec<Bytes>) {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let parallel = self.options.parallel_tool_calls;
        let calls: Vec<ToolCallDelta> = delta
            .tool_calls
            .into_iter()
            .filter(|call| parallel || call.index == 0)
            .map(|call| ToolCallDelta {
                index: u32::try_from(call.index).unwrap_or(u32::MAX),
                kind: call.id.is_some().then_some(CallKind::Function),
                id: call.id,
                function: FunctionDelta { name: call.name, arguments: Some(call.arguments_delta) },
            })
            .collect();
        let mut delta = Delta {
            role: None,
            content: some(delta.content).map(Some),
            reasoning_content: some(delta.reasoning),
            tool_calls: Some(calls).filter(|calls| !calls.is_empty()),
        };
        if delta == Delta::default() {
            return;
        }
        if self.is_first(index) {
            if delta.content.is_none() && delta.reasoning_content.is_none() {
                delta.role = Some("assistant".to_owned());
                delta.content = Some(None);
            } else {
                out.push(self.chunk(index, first_delta(), Vec::new(), None));
            }
        }
        let held = std::mem::take(self.held_logprobs(index));
        out.push(self.chunk(index, delta, held, None));
    }

    fn chunk(
        &self,
        index: u32,
        delta: Delta,
        logprobs: Vec<TokenLogprob>,
        finish_reason: Option<FinishReason>,
    ) -> Bytes {
        let logprobs = (self.options.logprobs && !logprobs.is_empty()).then(|| logprobs::chat(logprobs));
        sse::data(&self.frame(
            vec![ChatChunkChoice { index, delta, logprobs, finish_reason }],
            self.options.usage.then_some(None),
        ))
    }

    fn usage_chunk(&self) -> Option<Bytes> {
        let usage = Usage::from(self.usage.clone());
        self.options.usage.then(|| sse::data(&self.frame(Vec::new(), Some(Some(usage)))))
    }

    fn frame(&self, choices: Vec<ChatChunkChoice>, usage: Option<Option<Usage>>) -> ChatChunk {
        ChatChunk {
            id: self.header.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.header.created,
            model: self.header.model.clone(),
            choices,
            usage,
            system_fingerprint: Some(self.header.fingerprint.clone()),
        }
    }
}

/// The beginning of a message with text.
fn first_delta() -> Delta {
    Delta { role: Some("assistant".to_owned()), content: Some(Some(String::new())), ..Delta::default() }
}

/// The server-sent events of a response.
pub(crate) fn events(
    outputs: impl Stream<Item = (u32, OutputEvent)> + Unpin + 'static,
    mut encoder: ChunkEncoder,
) -> impl Stream<Item = Bytes> {
    let begin = stream::iter(encoder.begin());
    begin.chain(outputs.flat_map(move |(index, event)| stream::iter(encoder.encode(index, event))))
}
