//! A chat's answer as chunks, as server-sent events.

use actix_web::web::Bytes;
use futures::{Stream, StreamExt as _, stream};
use videosdgx_api::openai::{
    CallKind, ChatChunk, ChatChunkChoice, Delta, FinishReason, FunctionDelta, TokenLogprob, ToolCallDelta,
    Usage,
};
use videosdgx_text::OutputDelta;

use super::answer::{Heading, finish_reason};
use crate::{failed, logprobs, output::Piece, sse, usage::UsageCount};

/// What the chunks carry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) logprobs: bool,
    pub(crate) usage: bool,
    /// More than one call of a tool.
    pub(crate) parallel: bool,
}

/// Makes chunks of pieces.
#[derive(Debug)]
pub(crate) struct Chunks {
    heading: Heading,
    wanted: Wanted,
    count: UsageCount,
    /// Of each answer, those whose text is held back.
    logprobs: Vec<Vec<TokenLogprob>>,
    /// Answers that go on.
    open: usize,
}

impl Chunks {
    pub(crate) fn new(heading: Heading, wanted: Wanted, answers: usize) -> Self {
        Self {
            heading,
            wanted,
            count: UsageCount::default(),
            logprobs: (0..answers).map(|_| Vec::new()).collect(),
            open: answers,
        }
    }

    /// Whose turn it is, for each answer.
    pub(crate) fn begin(&self) -> Vec<Bytes> {
        (0_u32..)
            .zip(&self.logprobs)
            .map(|(index, _)| {
                let delta = Delta {
                    role: Some("assistant".to_owned()),
                    content: Some(String::new()),
                    ..Delta::default()
                };
                self.chunk(index, delta, Vec::new(), None)
            })
            .collect()
    }

    /// What a piece adds.
    pub(crate) fn push(&mut self, index: u32, piece: Piece) -> Vec<Bytes> {
        let mut out = Vec::new();
        match piece {
            Piece::Token(token) => {
                self.count.token(&token.delta);
                if self.wanted.logprobs {
                    let token = token.logprob.as_ref().map(logprobs::chat_token);
                    self.held(index).extend(token);
                }
                out.extend(self.delta(index, token.delta));
            }
            Piece::Error(error) if error.recoverable => out.push(sse::comment(&failed::in_chunks(&error))),
            Piece::Error(error) => out.push(sse::data(&failed::in_chunks(&error))),
            Piece::End(mut end) => {
                self.count.end(index, &end.completed.usage);
                self.open = self.open.saturating_sub(1);
                out.extend(self.delta(index, std::mem::take(&mut end.delta)));
                if let Some(reason) = finish_reason(&end) {
                    let held = std::mem::take(self.held(index));
                    out.push(self.chunk(index, Delta::default(), held, Some(reason)));
                }
                if self.open == 0 {
                    out.extend(self.usage());
                    out.push(sse::done());
                }
            }
        }
        out
    }

    fn held(&mut self, index: u32) -> &mut Vec<TokenLogprob> {
        let index = index as usize;
        if self.logprobs.len() <= index {
            self.logprobs.resize_with(index + 1, Vec::new);
        }
        &mut self.logprobs[index]
    }

    fn delta(&mut self, index: u32, delta: OutputDelta) -> Option<Bytes> {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let parallel = self.wanted.parallel;
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
        let delta = Delta {
            role: None,
            content: some(delta.content),
            reasoning_content: some(delta.reasoning),
            tool_calls: Some(calls).filter(|calls| !calls.is_empty()),
        };
        if delta == Delta::default() {
            return None;
        }
        let held = std::mem::take(self.held(index));
        Some(self.chunk(index, delta, held, None))
    }

    fn chunk(
        &self,
        index: u32,
        delta: Delta,
        logprobs: Vec<TokenLogprob>,
        finish_reason: Option<FinishReason>,
    ) -> Bytes {
        let logprobs = (self.wanted.logprobs && !logprobs.is_empty()).then(|| logprobs::chat(logprobs));
        sse::data(&self.frame(
            vec![ChatChunkChoice { index, delta, logprobs, finish_reason }],
            self.wanted.usage.then_some(None),
        ))
    }

    fn usage(&self) -> Option<Bytes> {
        let usage = Usage::from(self.count.clone());
        self.wanted.usage.then(|| sse::data(&self.frame(Vec::new(), Some(Some(usage)))))
    }

    fn frame(&self, choices: Vec<ChatChunkChoice>, usage: Option<Option<Usage>>) -> ChatChunk {
        ChatChunk {
            id: self.heading.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.heading.created,
            model: self.heading.model.clone(),
            choices,
            usage,
            system_fingerprint: Some(self.heading.fingerprint.clone()),
            service_tier: None,
        }
    }
}

/// The events of an answer.
pub(crate) fn events(
    pieces: impl Stream<Item = (u32, Piece)> + Unpin + 'static,
    mut chunks: Chunks,
) -> impl Stream<Item = Bytes> {
    let begin = stream::iter(chunks.begin());
    begin.chain(pieces.flat_map(move |(index, piece)| stream::iter(chunks.push(index, piece))))
}
