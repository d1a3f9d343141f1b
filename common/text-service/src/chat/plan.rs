//! From a chat request to a task for the engine.

use std::sync::Arc;

use serde_json::{Map, Value};
use videosdgx_api::{
    Problem,
    openai::{self, ChatMessage, ChatRequest},
};
use videosdgx_shell::HandlerResult;
use videosdgx_text::{ToolChoice, ToolError, ToolSet, tool_constraint};

use crate::{
    conversation::{Conversation, tool_values},
    knobs::{Checkpoint, Choosing, Knobs},
    limits::MAX_TOP_LOGPROBS,
    prompt::{self, Telling},
    ready::Ready,
    service::TextService,
    structure::{self, Forms, Structure},
    submission::Task,
};

/// What a conversation and its tools are made of, in whatever protocol it came.
pub(crate) struct Asked<'a> {
    pub(crate) messages: &'a [ChatMessage],
    pub(crate) tools: Option<&'a [openai::Tool]>,
    pub(crate) tool_choice: Option<&'a openai::ToolChoice>,
    pub(crate) parallel: bool,
    pub(crate) kwargs: Option<&'a Map<String, Value>>,
    pub(crate) choosing: Choosing,
    pub(crate) structure: Option<Structure>,
    pub(crate) logprobs: Option<u8>,
    pub(crate) max_tokens: Option<u64>,
    /// The field of `max_tokens`.
    pub(crate) max_tokens_field: &'static str,
    /// Unless told.
    pub(crate) fallback_tokens: Option<u64>,
    /// Put before the names of fields: `params.`
    pub(crate) place: &'static str,
}

/// Everything of `request` that can be checked without the prompt, then the prompt.
pub(crate) async fn of_request(
    service: &TextService,
    ready: &Arc<Ready>,
    request: &ChatRequest,
) -> HandlerResult<Task> {
    if request.stream_options.is_some() && request.stream != Some(true) {
        return Err(Problem::field("stream_options", "only with \"stream\": true").into());
    }
    let kwargs = kwargs(request)?;
    let (max_tokens, max_tokens_field) = match (request.max_completion_tokens, request.max_tokens) {
        (Some(told), _) => (Some(told), "max_completion_tokens"),
        (None, told) => (told, "max_tokens"),
    };
    let asked = Asked {
        messages: &request.messages,
        tools: request.tools.as_deref(),
        tool_choice: request.tool_choice.as_ref(),
        parallel: request.parallel_tool_calls.unwrap_or(true),
        kwargs: kwargs.as_ref(),
        choosing: Knobs::of_chat(request).check(checkpoint(ready))?,
        structure: Forms::of_chat(request).check()?,
        logprobs: logprobs(request)?,
        max_tokens,
        max_tokens_field,
        fallback_tokens: None,
        place: "",
    };
    task(service, ready, asked).await
}

/// What the checkpoint brings to the sampling of a request.
pub(crate) fn checkpoint(ready: &Ready) -> Checkpoint<'_> {
    Checkpoint {
        defaults: ready.assets.defaults(),
        end_tokens: ready.assets.end_tokens(),
        vocab: ready.tokenizer.vocab_size(),
    }
}

/// The prompt, the tools' grammar, and as many tokens as fit.
pub(crate) async fn task(service: &TextService, ready: &Arc<Ready>, asked: Asked<'_>) -> HandlerResult<Task> {
    let place = asked.place;
    let named = |error: ToolError| Problem::field(format!("{place}{}", error.field), error.reason);
    let (tools, choice) = tools(asked.tools, asked.tool_choice).map_err(named)?;
    let conversation = Conversation::check(asked.messages, ready.images.is_some())?;
    let mut kwargs = asked.kwargs.cloned().unwrap_or_default();
    if asked.structure.is_some() || matches!(choice, ToolChoice::Required | ToolChoice::Named(_)) {
        // What must have a form is not thought about first, unless the caller wants that.
        kwargs.entry("enable_thinking").or_insert(Value::Bool(false));
    }
    let telling = Telling { conversation, tools: tool_values(&tools), kwargs, open_answer: true };
    let written = prompt::of_conversation(service, ready, telling).await?;
    let tools = ToolSet::parse(&tool_values(&tools)).map_err(named)?;
    let structure = form(ready, asked.structure, &tools, &choice, asked.parallel, written.thinking, place)?;
    let mut choosing = asked.choosing;
    choosing.stop.max_tokens = prompt::most_tokens(
        ready,
        &written.prompt,
        asked.max_tokens,
        asked.fallback_tokens,
        asked.max_tokens_field,
    )?;
    Ok(Task { written, choosing, structure, logprobs: asked.logprobs, parse: Some(tools) })
}

/// The tools that the model is told of, and whether it calls one.
fn tools(
    sent: Option<&[openai::Tool]>,
    choice: Option<&openai::ToolChoice>,
) -> Result<(Vec<openai::Tool>, ToolChoice), ToolError> {
    let sent = sent.unwrap_or_default();
    let all = ToolSet::parse(&tool_values(sent))?;
    if let Some(openai::ToolChoice::Allowed { allowed_tools, .. }) = choice {
        for tool in &allowed_tools.tools {
            if all.get(&tool.function.name).is_none() {
                return Err(ToolError {
                    field: "tool_choice.allowed_tools.tools".to_owned(),
                    reason: format!("{:?} is not among the tools", tool.function.name),
                });
            }
        }
        let allowed = |tool: &&openai::Tool| {
            allowed_tools.tools.iter().any(|named| named.function.name == tool.function.name)
        };
        let some: Vec<openai::Tool> = sent.iter().filter(allowed).cloned().collect();
        let mode = serde_json::to_value(allowed_tools.mode).unwrap_or_default();
        let choice = ToolChoice::parse(Some(&mode), &ToolSet::parse(&tool_values(&some))?)?;
        return Ok((some, choice));
    }
    let value = choice.map(|choice| serde_json::to_value(choice).unwrap_or_default());
    let choice = ToolChoice::parse(value.as_ref(), &all)?;
    // Who must not call is not told of what there is to call.
    let told = if choice == ToolChoice::None { Vec::new() } else { sent.to_vec() };
    Ok((told, choice))
}

/// The form of the answer: what was asked for, calls of tools, or either.
fn form(
    ready: &Ready,
    structure: Option<Structure>,
    tools: &ToolSet,
    choice: &ToolChoice,
    parallel: bool,
    thinking: bool,
    place: &str,
) -> Result<Option<Structure>, Problem> {
    let field = format!("{place}tool_choice");
    let forced = matches!(choice, ToolChoice::Required | ToolChoice::Named(_));
    let format = ready.format.tools;
    match (structure, forced) {
        (Some(structure), true) => {
            let detail = format!("{} says already what the answer looks like", structure.field);
            Err(Problem::field(field, detail))
        }
        (None, true) => {
            let format =
                format.ok_or_else(|| Problem::field(&field, "this model was not taught to call tools"))?;
            let constraint = tool_constraint(format, tools, choice, parallel, thinking);
            Ok(constraint.map(|constraint| Structure { constraint, field }))
        }
        (Some(Structure { constraint, field }), false) => {
            let calls = format
                .filter(|_| !tools.is_empty() && *choice == ToolChoice::Auto)
                .and_then(|format| tool_constraint(format, tools, &ToolChoice::Required, parallel, false));
            let constraint = match calls {
                Some(calls) => structure::or_calls(constraint, &calls),
                None => constraint,
            };
            let constraint = if thinking { structure::after_thoughts(constraint) } else { constraint };
            Ok(Some(Structure { constraint, field }))
        }
        (None, false) => Ok(None),
    }
}

fn logprobs(request: &ChatRequest) -> Result<Option<u8>, Problem> {
    let asked = request.logprobs == Some(true);
    match request.top_logprobs {
        Some(top) if top > MAX_TOP_LOGPROBS => {
            let detail = format!("top_logprobs is 0 to {MAX_TOP_LOGPROBS}");
            Err(Problem::field("top_logprobs", detail).with_limit(MAX_TOP_LOGPROBS))
        }
        Some(_) if !asked => Err(Problem::field("top_logprobs", "only with \"logprobs\": true")),
        top => Ok(asked.then(|| u8::try_from(top.unwrap_or(0)).unwrap_or(0))),
    }
}

/// Variables for the template, how much to think included.
fn kwargs(request: &ChatRequest) -> Result<Option<Map<String, Value>>, Problem> {
    const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];
    let Some(effort) = request.reasoning_effort.as_deref() else {
        return Ok(request.chat_template_kwargs.clone());
    };
    if !EFFORTS.contains(&effort) {
        let detail = format!("reasoning_effort is one of {}", EFFORTS.join(", "));
        return Err(Problem::field("reasoning_effort", detail));
    }
    let mut kwargs = request.chat_template_kwargs.clone().unwrap_or_default();
    kwargs.entry("reasoning_effort").or_insert_with(|| Value::from(effort));
    kwargs.entry("enable_thinking").or_insert(Value::Bool(effort != "none"));
    Ok(Some(kwargs))
}
