//! A chat's answer in one piece.

use std::pin::pin;

use futures::{Stream, StreamExt as _};
use videosdgx_api::openai::{
    AnswerMessage, CallKind, ChatChoice, ChatCompletion, FinishReason, FunctionCall, TokenLogprob, ToolCall,
    Usage,
};
use videosdgx_shell::{Failure, HandlerResult};
use videosdgx_text::{OutputDelta, StreamError};

use crate::{
    failed, logprobs,
    output::{End, Piece},
    usage::UsageCount,
};

/// What names an answer.
#[derive(Debug, Clone)]
pub(crate) struct Heading {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) model: String,
    pub(crate) fingerprint: String,
}

/// One answer as it grows.
#[derive(Debug, Default)]
struct Growing {
    content: String,
    reasoning: String,
    calls: Vec<ToolCall>,
    logprobs: Vec<TokenLogprob>,
    error: Option<StreamError>,
    end: Option<Box<End>>,
}

impl Growing {
    fn take(&mut self, delta: OutputDelta, parallel: bool) {
        self.content.push_str(&delta.content);
        self.reasoning.push_str(&delta.reasoning);
        for call in delta.tool_calls {
            if call.index > 0 && !parallel {
                continue;
            }
            if call.index == self.calls.len() {
                self.calls.push(ToolCall {
                    id: call.id.unwrap_or_default(),
                    kind: CallKind::Function,
                    function: FunctionCall {
                        name: call.name.unwrap_or_default(),
                        arguments: call.arguments_delta,
                    },
                });
            } else if let Some(known) = self.calls.get_mut(call.index) {
                known.function.arguments.push_str(&call.arguments_delta);
            }
        }
    }

    fn choice(self, index: u32, with_logprobs: bool) -> Option<ChatChoice> {
        let end = self.end?;
        let finish_reason = finish_reason(&end)?;
        let called = !self.calls.is_empty();
        Some(ChatChoice {
            index,
            message: AnswerMessage {
                role: "assistant".to_owned(),
                content: Some(self.content).filter(|content| !called || !content.is_empty()),
                reasoning_content: Some(self.reasoning).filter(|thoughts| !thoughts.is_empty()),
                tool_calls: Some(self.calls).filter(|calls| !calls.is_empty()),
                ..AnswerMessage::default()
            },
            logprobs: with_logprobs.then(|| logprobs::chat(self.logprobs)),
            finish_reason: Some(finish_reason),
            stop_reason: end.completed.matched,
        })
    }
}

/// Why an answer ended, when it was not an error.
pub(crate) fn finish_reason(end: &End) -> Option<FinishReason> {
    use videosdgx_text::FinishReason as Ended;
    match end.completed.reason {
        Ended::Stop if end.called => Some(FinishReason::ToolCalls),
        Ended::Stop => Some(FinishReason::Stop),
        Ended::Length => Some(FinishReason::Length),
        Ended::Cancelled | Ended::Deadline | Ended::Error => None,
    }
}

/// Waits for all of `pieces`. An answer that an error ended is that error.
pub(crate) async fn whole(
    pieces: impl Stream<Item = (u32, Piece)>,
    answers: usize,
    heading: Heading,
    with_logprobs: bool,
    parallel: bool,
) -> HandlerResult<ChatCompletion> {
    let mut pieces = pin!(pieces);
    let mut growing: Vec<Growing> = (0..answers).map(|_| Growing::default()).collect();
    let mut count = UsageCount::default();
    while let Some((index, piece)) = pieces.next().await {
        let Some(answer) = growing.get_mut(index as usize) else { continue };
        match piece {
            Piece::Token(token) => {
                count.token(&token.delta);
                answer.logprobs.extend(token.logprob.as_ref().map(logprobs::chat_token));
                answer.take(token.delta, parallel);
            }
            Piece::Error(error) if error.recoverable => {}
            Piece::Error(error) => answer.error = Some(error),
            Piece::End(mut end) => {
                count.end(index, &end.completed.usage);
                answer.take(std::mem::take(&mut end.delta), parallel);
                if finish_reason(&end).is_none() {
                    return Err(Failure::from(failed::problem(answer.error.as_ref(), end.completed.reason)));
                }
                answer.end = Some(end);
            }
        }
    }
    let choices = (0_u32..)
        .zip(growing)
        .map(|(index, answer)| {
            answer.choice(index, with_logprobs).ok_or_else(|| Failure::internal("the engine lost an answer"))
        })
        .collect::<HandlerResult<Vec<ChatChoice>>>()?;
    Ok(ChatCompletion {
        id: heading.id,
        object: "chat.completion".to_owned(),
        created: heading.created,
        model: heading.model,
        choices,
        usage: Usage::from(count),
        system_fingerprint: Some(heading.fingerprint),
        service_tier: None,
    })
}
