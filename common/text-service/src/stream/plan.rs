//! From a `generate` message to a task for the engine.

use std::sync::Arc;

use videosdgx_api::{
    Problem, StreamGenerate, StreamParams,
    openai::{ChatMessage, Role},
};
use videosdgx_shell::{Failure, HandlerResult, run_blocking};

use crate::{
    chat::plan::{Asked, checkpoint, task},
    knobs::Knobs,
    limits::{MAX_NAME, STREAM_TOKENS},
    output::Output,
    prompt,
    ready::Ready,
    service::TextService,
    structure::Forms,
    submission::{self, Task},
};

/// Everything of `asked`, checked.
pub(crate) async fn of_generate(
    service: &TextService,
    ready: &Arc<Ready>,
    asked: StreamGenerate,
) -> HandlerResult<Task> {
    check_name(asked.request_id.as_deref())?;
    let none = StreamParams::default();
    let params = asked.params.as_ref().unwrap_or(&none);
    let choosing = Knobs::of_stream(params).check(checkpoint(ready))?;
    let structure = Forms::of_stream(params).check()?;
    let messages = match (&asked.prompt, &asked.messages, &asked.system_prompt) {
        (Some(_), Some(_), _) => {
            return Err(Problem::field("messages", "send a prompt or messages, not both").into());
        }
        (None, None, _) => return Err(Problem::field("prompt", "send a prompt or messages").into()),
        (Some(_), None, None) => None,
        (Some(prompt), None, Some(system)) => {
            Some(vec![ChatMessage::text(Role::System, system), ChatMessage::text(Role::User, prompt)])
        }
        (None, Some(messages), None) => Some(messages.clone()),
        (None, Some(messages), Some(system)) => {
            let system = ChatMessage::text(Role::System, system);
            Some(std::iter::once(system).chain(messages.iter().cloned()).collect())
        }
    };
    if let Some(messages) = messages {
        let asked = Asked {
            messages: &messages,
            tools: params.tools.as_deref(),
            tool_choice: params.tool_choice.as_ref(),
            parallel: true,
            kwargs: params.chat_template_kwargs.as_ref(),
            choosing,
            structure,
            logprobs: None,
            max_tokens: asked.max_tokens,
            max_tokens_field: "max_tokens",
            fallback_tokens: Some(STREAM_TOKENS),
            place: "params.",
        };
        return task(service, ready, asked).await;
    }
    if params.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
        return Err(Problem::field("params.tools", "tools go with messages, not with a prompt").into());
    }
    let (shared, text) = (Arc::clone(ready), asked.prompt.unwrap_or_default());
    let written = run_blocking(move || prompt::of_text(&shared, &text, "prompt")).await??;
    let mut choosing = choosing;
    choosing.stop.max_tokens =
        prompt::most_tokens(ready, &written.prompt, asked.max_tokens, Some(STREAM_TOKENS), "max_tokens")?;
    Ok(Task { written, choosing, structure, logprobs: None, parse: None })
}

/// Everything up to the engine's yes.
pub(crate) async fn begin(
    service: &Arc<TextService>,
    principal: &str,
    stream_id: &str,
    asked: StreamGenerate,
) -> HandlerResult<(Output, Arc<Ready>)> {
    let ready = service.ready().await?;
    let task = of_generate(service, &ready, asked).await?;
    service.loaded().await?;
    let outputs = submission::submit(service, &ready, principal, stream_id, vec![task]).await?;
    let output = outputs.into_iter().next();
    let output = output.ok_or_else(|| Failure::internal("the engine lost an answer"))?;
    Ok((output, ready))
}

/// Names that clients give.
pub(crate) fn check_name(name: Option<&str>) -> Result<(), Problem> {
    match name {
        Some(name) if name.is_empty() || name.len() > MAX_NAME => {
            let detail = format!("a request_id has 1 to {MAX_NAME} bytes");
            Err(Problem::field("request_id", detail).with_limit(MAX_NAME))
        }
        _ => Ok(()),
    }
}
