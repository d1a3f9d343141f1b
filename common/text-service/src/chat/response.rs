//! A chat completion in one piece.

use std::pin::pin;

use futures::{Stream, StreamExt as _};
use videosdgx_api::openai::{
    AnswerMessage, CallKind, ChatChoice, ChatCompletion, FunctionCall, TokenLogprob, ToolCall, Usage,
};
use videosdgx_shell::{Failure, HandlerResult};
use videosdgx_text::{OutputDelta, StreamError};

use crate::{
    errors, logprobs,
    output::{OutputEnd, OutputEvent},
    response::{ResponseHeader, UsageCounter},
};

/// One answer while it is generated.
#[derive(Debug, Default)]
struct PartialChoice {
    content: String,
    reasoning: String,
    calls: Vec<ToolCall>,
    logprobs: Vec<TokenLogprob>,
    error: Option<StreamError>,
    end: Option<Box<OutputEnd>>,
}

impl PartialChoice {
    fn append(&mut self, delta: OutputDelta, parallel: bool) {
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

    fn into_choice(self, index: u32, with_logprobs: bool) -> Option<ChatChoice> {
        let end = self.end?;
        let finish_reason = end.finish_reason()?;
        let has_calls = !self.calls.is_empty();
        Some(ChatChoice {
            index,
            message: AnswerMessage {
                role: "assistant".to_owned(),
                content: Some(self.content).filter(|content| !has_calls || !content.is_empty()),
                reasoning_content: Some(self.reasoning).filter(|reasoning| !reasoning.is_empty()),
                tool_calls: Some(self.calls).filter(|calls| !calls.is_empty()),
                ..AnswerMessage::default()
            },
            logprobs: with_logprobs.then(|| logprobs::chat(self.logprobs)),
            finish_reason: Some(finish_reason),
            stop_reason: end.completed.matched,
        })
    }
}

/// Waits for the end of all answers. If an error ends one of them, the response is that error.
pub(crate) async fn collect(
    outputs: impl Stream<Item = (u32, OutputEvent)>,
    answers: usize,
    header: ResponseHeader,
    with_logprobs: bool,
    parallel: bool,
) -> HandlerResult<ChatCompletion> {
    let mut outputs = pin!(outputs);
    let mut choices: Vec<PartialChoice> = (0..answers).map(|_| PartialChoice::default()).collect();
    let mut usage = UsageCounter::default();
    while let Some((index, event)) = outputs.next().await {
        let Some(choice) = choices.get_mut(index as usize) else { continue };
        match event {
            OutputEvent::Token(token) => {
                usage.add_token(&token.delta);
                choice.logprobs.extend(token.logprob.as_ref().map(logprobs::chat_token));
                choice.append(token.delta, parallel);
            }
            OutputEvent::Error(error) if error.recoverable => {}
            OutputEvent::Error(error) => choice.error = Some(error),
            OutputEvent::End(mut end) => {
                usage.add_answer(index, &end.completed.usage);
                choice.append(std::mem::take(&mut end.delta), parallel);
                if end.finish_reason().is_none() {
                    let problem = errors::generation_problem(choice.error.as_ref(), end.completed.reason);
                    return Err(Failure::from(problem));
                }
                choice.end = Some(end);
            }
        }
    }
    let choices = (0_u32..)
        .zip(choices)
        .map(|(index, choice)| {
            choice
                .into_choice(index, with_logprobs)
                .ok_or_else(|| Failure::internal("the engine ended a stream without its last event"))
        })
        .collect::<HandlerResult<Vec<ChatChoice>>>()?;
    Ok(ChatCompletion {
        id: header.id,
        object: "chat.completion".to_owned(),
        created: header.created,
        model: header.model,
        choices,
        usage: Usage::from(usage),
        system_fingerprint: Some(header.fingerprint),
    })
}
