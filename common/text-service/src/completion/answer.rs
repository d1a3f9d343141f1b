//! A completion in one piece.

use std::pin::pin;

use futures::{Stream, StreamExt as _};
use videosdgx_api::openai::{Completion, CompletionChoice, Usage};
use videosdgx_shell::{Failure, HandlerResult};
use videosdgx_text::StreamError;

use crate::{
    chat::answer::{Heading, finish_reason},
    failed,
    logprobs::CompletionTokens,
    output::Piece,
    usage::UsageCount,
};

#[derive(Debug)]
struct Growing {
    choice: CompletionChoice,
    logprobs: CompletionTokens,
    error: Option<StreamError>,
}

/// Waits for all of `pieces`. `echoes`: what each answer begins with.
pub(crate) async fn whole(
    pieces: impl Stream<Item = (u32, Piece)>,
    echoes: Vec<String>,
    n: u32,
    heading: Heading,
    with_logprobs: bool,
) -> HandlerResult<Completion> {
    let mut pieces = pin!(pieces);
    let mut growing: Vec<Growing> = (0_u32..)
        .zip(echoes)
        .map(|(index, text)| Growing {
            choice: CompletionChoice { index, text, logprobs: None, finish_reason: None, stop_reason: None },
            logprobs: CompletionTokens::default(),
            error: None,
        })
        .collect();
    let mut count = UsageCount::of_prompts(n);
    while let Some((index, piece)) = pieces.next().await {
        let Some(answer) = growing.get_mut(index as usize) else { continue };
        match piece {
            Piece::Token(token) => {
                answer.choice.text.push_str(&token.delta.content);
                if let Some(found) = &token.logprob {
                    answer.logprobs.push(found);
                }
            }
            Piece::Error(error) if error.recoverable => {}
            Piece::Error(error) => answer.error = Some(error),
            Piece::End(end) => {
                count.end(index, &end.completed.usage);
                answer.choice.text.push_str(&end.delta.content);
                let reason = finish_reason(&end);
                if reason.is_none() {
                    return Err(Failure::from(failed::problem(answer.error.as_ref(), end.completed.reason)));
                }
                answer.choice.finish_reason = reason;
                answer.choice.stop_reason = end.completed.matched;
                answer.choice.logprobs = with_logprobs.then(|| answer.logprobs.take());
            }
        }
    }
    if growing.iter().any(|answer| answer.choice.finish_reason.is_none()) {
        return Err(Failure::internal("the engine lost an answer"));
    }
    Ok(Completion {
        id: heading.id,
        object: "text_completion".to_owned(),
        created: heading.created,
        model: heading.model,
        choices: growing.into_iter().map(|answer| answer.choice).collect(),
        usage: Some(Some(Usage::from(count))),
        system_fingerprint: Some(heading.fingerprint),
    })
}
