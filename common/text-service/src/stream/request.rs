//! From a `generate` message to a task for the engine.

use std::sync::Arc;

use videosdgx_api::{
    Problem, StreamGenerate, StreamParams,
    openai::{ChatMessage, Role},
};
use videosdgx_shell::{HandlerResult, run_blocking};

use crate::{
    chat::request::{ChatInput, task_of_input},
    constraint::OutputConstraintFields,
    limits::{MAX_REQUEST_ID, STREAM_TOKENS},
    prompt::{self, PromptEnd},
    runtime::ModelRuntime,
    sampling::RawSamplingParams,
    submission::GenerationTask,
};

/// Checks every field of `request` and tokenizes its prompt.
pub(crate) async fn task_of_generate(
    runtime: &Arc<ModelRuntime>,
    request: StreamGenerate,
) -> HandlerResult<GenerationTask> {
    check_request_id(request.request_id.as_deref())?;
    let no_params = StreamParams::default();
    let params = request.params.as_ref().unwrap_or(&no_params);
    let mut sampling = RawSamplingParams::from(params).resolve(runtime.checkpoint_sampling())?;
    let constraint = OutputConstraintFields::from(params).resolve()?;
    let messages = match (&request.prompt, &request.messages, &request.system_prompt) {
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
        let input = ChatInput {
            messages: &messages,
            tools: params.tools.as_deref(),
            tool_choice: params.tool_choice.as_ref(),
            parallel_tool_calls: true,
            kwargs: params.chat_template_kwargs.as_ref(),
            prompt_end: PromptEnd::NewMessage,
            sampling,
            constraint,
            logprobs: None,
            max_tokens: request.max_tokens,
            max_tokens_field: "max_tokens",
            default_max_tokens: Some(STREAM_TOKENS),
            field_prefix: "params.",
        };
        return task_of_input(runtime, input).await;
    }
    if params.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
        return Err(Problem::field("params.tools", "tools need messages; a prompt cannot have any").into());
    }
    let (shared, text) = (Arc::clone(runtime), request.prompt.unwrap_or_default());
    let prompt = run_blocking(move || prompt::of_text(&shared, &text, "prompt")).await??;
    sampling.stop.max_tokens =
        prompt::output_limit(runtime, &prompt.prompt, request.max_tokens, Some(STREAM_TOKENS), "max_tokens")?;
    Ok(GenerationTask { prompt, sampling, constraint, logprobs: None, tools: None })
}

/// Checks the length of a client's `request_id`.
pub(crate) fn check_request_id(request_id: Option<&str>) -> Result<(), Problem> {
    match request_id {
        Some(id) if id.is_empty() || id.len() > MAX_REQUEST_ID => {
            let detail = format!("a request_id must have 1 to {MAX_REQUEST_ID} bytes");
            Err(Problem::field("request_id", detail).with_limit(MAX_REQUEST_ID))
        }
        _ => Ok(()),
    }
}
