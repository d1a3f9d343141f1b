//! A text completion in one piece.

use std::pin::pin;

use futures::{Stream, StreamExt as _};
use videosdgx_api::openai::{Completion, CompletionChoice, Usage};
use videosdgx_shell::{Failure, HandlerResult};
use videosdgx_text::StreamError;

use crate::{
    errors,
    logprobs::CompletionTokens,
    output::OutputEvent,
    response::{ResponseHeader, UsageCounter},
};

/// One answer while it is generated.
#[derive(Debug)]
struct PartialChoice {
    choice: CompletionChoice,
    logprobs: CompletionTokens,
    error: Option<StreamError>,
}

/// Waits for the end of all answers. `echoes`: the text that each answer begins with; `n`: answers per prompt.
pub(crate) async fn collect(
    outputs: impl Stream<Item = (u32, OutputEvent)>,
    echoes: Vec<String>,
    n: u32,
    header: ResponseHeader,
    with_logprobs: bool,
) -> HandlerResult<Completion> {
    let mut outputs = pin!(outputs);
    let mut choices: Vec<PartialChoice> = (0_u32..)
        .zip(echoes)
        .map(|(index, text)| PartialChoice {
            choice: CompletionChoice { index, text, logprobs: None, finish_reason: None, stop_reason: None },
            logprobs: CompletionTokens::default(),
            error: None,
        })
        .collect();
    let mut usage = UsageCounter::of_prompts(n);
    while let Some((index, event)) = outputs.next().await {
        let Some(partial) = choices.get_mut(index as usize) else { continue };
        match event {
            OutputEvent::Token(token) => {
                partial.choice.text.push_str(&token.delta.content);
                if let Some(logprob) = &token.logprob {
                    partial.logprobs.push(logprob);
                }
            }
            OutputEvent::Error(error) if error.recoverable => {}
            OutputEvent::Error(error) => partial.error = Some(error),
            OutputEvent::End(end) => {
                usage.add_answer(index, &end.completed.usage);
                partial.choice.text.push_str(&end.delta.content);
                let reason = end.finish_reason();
                if reason.is_none() {
                    let problem = errors::generation_problem(partial.error.as_ref(), end.completed.reason);
                    return Err(Failure::from(problem));
                }
                partial.choice.finish_reason = reason;
                partial.choice.stop_reason = end.completed.matched;
                partial.choice.logprobs = with_logprobs.then(|| partial.logprobs.take());
            }
        }
    }
    if choices.iter().any(|partial| partial.choice.finish_reason.is_none()) {
        return Err(Failure::internal("the engine ended a stream without its last event"));
    }
    Ok(Completion {
        id: header.id,
        object: "text_completion".to_owned(),
        created: header.created,
        model: header.model,
        choices: choices.into_iter().map(|partial| partial.choice).collect(),
        usage: Some(Some(Usage::from(usage))),
        system_fingerprint: Some(header.fingerprint),
    })
}
