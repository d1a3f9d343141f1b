//! A completion as chunks, as server-sent events.

use actix_web::web::Bytes;
use futures::{Stream, StreamExt as _, stream};
use videosdgx_api::openai::{Completion, CompletionChoice, Usage};

use crate::{
    chat::answer::{Heading, finish_reason},
    failed,
    logprobs::CompletionTokens,
    output::Piece,
    sse,
    usage::UsageCount,
};

/// Makes chunks of pieces.
#[derive(Debug)]
pub(crate) struct Chunks {
    heading: Heading,
    with_usage: bool,
    with_logprobs: bool,
    count: UsageCount,
    echoes: Vec<String>,
    logprobs: Vec<CompletionTokens>,
    open: usize,
}

impl Chunks {
    /// `echoes`: what each answer begins with.
    pub(crate) fn new(
        heading: Heading,
        with_usage: bool,
        with_logprobs: bool,
        echoes: Vec<String>,
        n: u32,
    ) -> Self {
        Self {
            heading,
            with_usage,
            with_logprobs,
            count: UsageCount::of_prompts(n),
            logprobs: echoes.iter().map(|echo| CompletionTokens::after(echo.chars().count())).collect(),
            open: echoes.len(),
            echoes,
        }
    }

    /// The echoed prompts.
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

    /// What a piece adds.
    pub(crate) fn push(&mut self, index: u32, piece: Piece) -> Vec<Bytes> {
        let mut out = Vec::new();
        match piece {
            Piece::Token(token) => {
                let tokens = self.logprobs.get_mut(index as usize);
                if let (Some(tokens), Some(found)) = (tokens, &token.logprob) {
                    tokens.push(found);
                }
                if !token.delta.content.is_empty() {
                    let choice = self.choice(index, token.delta.content);
                    out.push(self.chunk(choice));
                }
            }
            Piece::Error(error) if error.recoverable => out.push(sse::comment(&failed::in_chunks(&error))),
            Piece::Error(error) => out.push(sse::data(&failed::in_chunks(&error))),
            Piece::End(end) => {
                self.count.end(index, &end.completed.usage);
                self.open = self.open.saturating_sub(1);
                if let Some(reason) = finish_reason(&end) {
                    let mut choice = self.choice(index, end.delta.content);
                    choice.finish_reason = Some(reason);
                    choice.stop_reason = end.completed.matched;
                    out.push(self.chunk(choice));
                }
                if self.open == 0 {
                    if self.with_usage {
                        let usage = Usage::from(self.count.clone());
                        out.push(sse::data(&self.frame(Vec::new(), Some(Some(usage)))));
                    }
                    out.push(sse::done());
                }
            }
        }
        out
    }

    fn choice(&mut self, index: u32, text: String) -> CompletionChoice {
        let wanted = self.with_logprobs;
        let logprobs = self.logprobs.get_mut(index as usize).filter(|_| wanted).map(CompletionTokens::take);
        CompletionChoice { index, text, logprobs, finish_reason: None, stop_reason: None }
    }

    fn chunk(&self, choice: CompletionChoice) -> Bytes {
        sse::data(&self.frame(vec![choice], self.with_usage.then_some(None)))
    }

    fn frame(&self, choices: Vec<CompletionChoice>, usage: Option<Option<Usage>>) -> Completion {
        Completion {
            id: self.heading.id.clone(),
            object: "text_completion".to_owned(),
            created: self.heading.created,
            model: self.heading.model.clone(),
            choices,
            usage,
            system_fingerprint: Some(self.heading.fingerprint.clone()),
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
