//! A text completion as chunks in server-sent events.

use actix_web::web::Bytes;
use futures::{Stream, StreamExt as _, stream};
use videosdgx_api::openai::{Completion, CompletionChoice, Usage};

use crate::{
    errors,
    logprobs::CompletionTokens,
    output::OutputEvent,
    response::{ResponseHeader, UsageCounter},
    sse,
};

/// Encodes output events as chunks.
#[derive(Debug)]
pub(crate) struct ChunkEncoder {
    header: ResponseHeader,
    with_usage: bool,
    with_logprobs: bool,
    usage: UsageCounter,
    echoes: Vec<String>,
    logprobs: Vec<CompletionTokens>,
    /// Answers that have not ended.
    open: usize,
}

impl ChunkEncoder {
    /// `echoes`: the text that each answer begins with; `n`: answers per prompt.
    pub(crate) fn new(
        header: ResponseHeader,
        with_usage: bool,
        with_logprobs: bool,
        echoes: Vec<String>,
        n: u32,
    ) -> Self {
        Self {
            header,
            with_usage,
            with_logprobs,
            usage: UsageCounter::of_prompts(n),
            logprobs: echoes.iter().map(|echo| CompletionTokens::after(echo.chars().count())).collect(),
            open: echoes.len(),
            echoes,
        }
    }

    /// The echoed prompts as first chunks.
    pub(crate) fn begin(&mut self) -> Vec<Bytes> {
        let echoes = std::mem::take(&mut self.echoes);
        (0_u32..)
            .zip(echoes)
            .filter(|(_, echo)| !echo.is_empty())
            .map(|(index, text)| {
                self.chunk(CompletionChoice {
                    index,
                    text,
                    logprobs: None,
                    finish_reason: None,
                    stop_reason: None,
                })
            })
            .collect()
    }

    /// The chunks of an event.
    pub(crate) fn encode(&mut self, index: u32, event: OutputEvent) -> Vec<Bytes> {
        let mut out = Vec::new();
        match event {
            OutputEvent::Token(token) => {
                let tokens = self.logprobs.get_mut(index as usize);
                if let (Some(tokens), Some(logprob)) = (tokens, &token.logprob) {
                    tokens.push(logprob);
                }
                if !token.delta.content.is_empty() {
                    let choice = self.choice(index, token.delta.content);
                    out.push(self.chunk(choice));
                }
            }
            OutputEvent::Error(error) if error.recoverable => {
                out.push(sse::comment(&errors::chunk_error(&error)))
            }
            OutputEvent::Error(error) => out.push(sse::data(&errors::chunk_error(&error))),
            OutputEvent::End(end) => {
                self.usage.add_answer(index, &end.completed.usage);
                self.open = self.open.saturating_sub(1);
                if let Some(reason) = end.finish_reason() {
                    let mut choice = self.choice(index, end.delta.content);
                    choice.finish_reason = Some(reason);
                    choice.stop_reason = end.completed.matched;
                    out.push(self.chunk(choice));
                }
                if self.open == 0 {
                    if self.with_usage {
                        let usage = Usage::from(self.usage.clone());
                        out.push(sse::data(&self.frame(Vec::new(), Some(Some(usage)))));
                    }
                    out.push(sse::done());
                }
            }
        }
        out
    }

    fn choice(&mut self, index: u32, text: String) -> CompletionChoice {
        let with_logprobs = self.with_logprobs;
        let logprobs =
            self.logprobs.get_mut(index as usize).filter(|_| with_logprobs).map(CompletionTokens::take);
        CompletionChoice { index, text, logprobs, finish_reason: None, stop_reason: None }
    }

    fn chunk(&self, choice: CompletionChoice) -> Bytes {
        sse::data(&self.frame(vec![choice], self.with_usage.then_some(None)))
    }

    fn frame(&self, choices: Vec<CompletionChoice>, usage: Option<Option<Usage>>) -> Completion {
        Completion {
            id: self.header.id.clone(),
            object: "text_completion".to_owned(),
            created: self.header.created,
            model: self.header.model.clone(),
            choices,
            usage,
            system_fingerprint: Some(self.header.fingerprint.clone()),
        }
    }
}

/// The server-sent events of a response.
pub(crate) fn events(
    outputs: impl Stream<Item = (u32, OutputEvent)> + Unpin + 'static,
    mut encoder: ChunkEncoder,
) -> impl Stream<Item = Bytes> {
    let begin = stream::iter(encoder.begin());
    begin.chain(outputs.flat_map(move |(index, event)| stream::iter(encoder.encode(index, event))))
}
