//! From a chat request to a task for the engine.

use std::sync::Arc;

use serde_json::{Map, Value};
use videosdgx_api::{
    Problem,
    openai::{self, ChatMessage, ChatRequest},
};
use videosdgx_shell::{HandlerResult, run_blocking};
use videosdgx_text::{ConstraintError, ToolChoice, ToolError, ToolSet, tool_constraint};

use crate::{
    constraint::{self, OutputConstraint, OutputConstraintFields},
    conversation::{Conversation, tool_values},
    limits::MAX_TOP_LOGPROBS,
    prompt::{self, PromptEnd, TemplateRequest},
    runtime::ModelRuntime,
    sampling::{RawSamplingParams, ResolvedSampling},
    submission::GenerationTask,
};

/// A conversation with tools and checked settings, from whichever protocol.
pub(crate) struct ChatInput<'a> {
    pub(crate) messages: &'a [ChatMessage],
    pub(crate) tools: Option<&'a [openai::Tool]>,
    pub(crate) tool_choice: Option<&'a openai::ToolChoice>,
    pub(crate) parallel_tool_calls: bool,
    /// Further template variables.
    pub(crate) kwargs: Option<&'a Map<String, Value>>,
    pub(crate) prompt_end: PromptEnd,
    pub(crate) sampling: ResolvedSampling,
    pub(crate) constraint: Option<OutputConstraint>,
    pub(crate) logprobs: Option<u8>,
    pub(crate) max_tokens: Option<u64>,
    /// The field that `max_tokens` was sent in.
    pub(crate) max_tokens_field: &'static str,
    /// Output limit without `max_tokens`; None: what the context leaves.
    pub(crate) default_max_tokens: Option<u64>,
    /// Prepended to field names in problems: empty, or `params.`.
    pub(crate) field_prefix: &'static str,
}

/// Checks every field of `request` that does not depend on the prompt, then tokenizes the prompt.
pub(crate) async fn task_of_request(
    runtime: &Arc<ModelRuntime>,
    request: &ChatRequest,
) -> HandlerResult<GenerationTask> {
    if request.stream_options.is_some() && request.stream != Some(true) {
        return Err(Problem::field("stream_options", "only allowed with \"stream\": true").into());
    }
    for (field, sent, newer) in
        [("functions", &request.functions, "tools"), ("function_call", &request.function_call, "tool_choice")]
    {
        if sent.is_some() {
            return Err(Problem::field(field, format!("{field} is not supported: send {newer}")).into());
        }
    }
    let kwargs = template_kwargs(request)?;
    let (max_tokens, max_tokens_field) = match (request.max_completion_tokens, request.max_tokens) {
        (Some(max_tokens), _) => (Some(max_tokens), "max_completion_tokens"),
        (None, max_tokens) => (max_tokens, "max_tokens"),
    };
    let input = ChatInput {
        messages: &request.messages,
        tools: request.tools.as_deref(),
        tool_choice: request.tool_choice.as_ref(),
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        kwargs: kwargs.as_ref(),
        prompt_end: PromptEnd::of(request.add_generation_prompt, request.continue_final_message)?,
        sampling: RawSamplingParams::from(request).resolve(runtime.checkpoint_sampling())?,
        constraint: OutputConstraintFields::from(request).resolve()?,
        logprobs: logprobs(request)?,
        max_tokens,
        max_tokens_field,
        default_max_tokens: None,
        field_prefix: "",
    };
    task_of_input(runtime, input).await
}

/// Tokenizes the conversation, builds the grammar of its tools and limits the output to what the context leaves.
pub(crate) async fn task_of_input(
    runtime: &Arc<ModelRuntime>,
    input: ChatInput<'_>,
) -> HandlerResult<GenerationTask> {
    let prefix = input.field_prefix;
    let tool_problem = |error: ToolError| Problem::field(format!("{prefix}{}", error.field), error.reason);
    let (tools, choice) = offered_tools(input.tools, input.tool_choice).map_err(tool_problem)?;
    let conversation = Conversation::check(input.messages, runtime.images.is_some())?;
    let mut kwargs = input.kwargs.cloned().unwrap_or_default();
    if input.constraint.is_some() || matches!(choice, ToolChoice::Required | ToolChoice::Named(_)) {
        // A constrained answer comes without reasoning, unless the caller sets `enable_thinking`.
        kwargs.entry("enable_thinking").or_insert(Value::Bool(false));
    }
    let template =
        TemplateRequest { conversation, tools: tool_values(&tools), kwargs, end: input.prompt_end };
    let prompt = prompt::of_conversation(runtime, template).await?;
    let tools = ToolSet::parse(&tool_values(&tools)).map_err(tool_problem)?;
    let mut sampling = input.sampling;
    sampling.stop.max_tokens = prompt::output_limit(
        runtime,
        &prompt.prompt,
        input.max_tokens,
        input.default_max_tokens,
        input.max_tokens_field,
    )?;
    // Reading large schemas takes time.
    let (shared, requested, parallel, thinking) =
        (Arc::clone(runtime), input.constraint, input.parallel_tool_calls, prompt.thinking);
    let (tools, constraint) = run_blocking(move || {
        let calls = ToolCalls { tools: &tools, choice: &choice, parallel };
        let constraint = output_constraint(&shared, requested, &calls, thinking, prefix);
        constraint.map(|constraint| (tools, constraint))
    })
    .await??;
    Ok(GenerationTask { prompt, sampling, constraint, logprobs: input.logprobs, tools: Some(tools) })
}

/// The tools that the prompt describes, and whether the model must call one.
fn offered_tools(
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
        let is_allowed = |tool: &&openai::Tool| {
            allowed_tools.tools.iter().any(|named| named.function.name == tool.function.name)
        };
        let allowed: Vec<openai::Tool> = sent.iter().filter(is_allowed).cloned().collect();
        let mode = serde_json::to_value(allowed_tools.mode).unwrap_or_default();
        let choice = ToolChoice::parse(Some(&mode), &ToolSet::parse(&tool_values(&allowed))?)?;
        return Ok((allowed, choice));
    }
    let value = choice.map(|choice| serde_json::to_value(choice).unwrap_or_default());
    let choice = ToolChoice::parse(value.as_ref(), &all)?;
    // With `none` the prompt does not describe the tools at all.
    let offered = if choice == ToolChoice::None { Vec::new() } else { sent.to_vec() };
    Ok((offered, choice))
}

/// Which tools the answer may or must call.
struct ToolCalls<'a> {
    tools: &'a ToolSet,
    choice: &'a ToolChoice,
    parallel: bool,
}

/// The constraint of the answer: the requested one, calls of tools, or a choice of both.
fn output_constraint(
    runtime: &ModelRuntime,
    requested: Option<OutputConstraint>,
    calls: &ToolCalls<'_>,
    thinking: bool,
    prefix: &str,
) -> Result<Option<OutputConstraint>, Problem> {
    let field = format!("{prefix}tool_choice");
    let forced = matches!(calls.choice, ToolChoice::Required | ToolChoice::Named(_));
    let problem = |error: ToolError| Problem::field(format!("{prefix}{}", error.field), error.reason);
    match (requested, forced) {
        // The answer to such a request is a call, so that the format of other answers does not matter.
        (Some(requested), true) if requested.field != format!("{prefix}response_format") => {
            let detail = format!("{} already constrains the answer", requested.field);
            Err(Problem::field(field, detail))
        }
        (_, true) => {
            let format = runtime
                .format
                .tools
                .ok_or_else(|| Problem::field(&field, "this model does not support tools"))?;
            let of = |tools: &ToolSet| {
                tool_constraint(format, tools, calls.choice, calls.parallel, thinking).map_err(problem)
            };
            let Some(constraint) = of(calls.tools)? else { return Ok(None) };
            let loosened = calls.tools.without_schemas().map(|tools| of(&tools)).transpose()?.flatten();
            Ok(Some(OutputConstraint { constraint, field, loosened }))
        }
        (Some(OutputConstraint { constraint, field, .. }), false) => {
            let format =
                runtime.format.tools.filter(|_| !calls.tools.is_empty() && *calls.choice == ToolChoice::Auto);
            let schema_problem = |error: ConstraintError| Problem::field(&field, error.to_string());
            let of = |tools: &ToolSet| {
                let calls = match format {
                    Some(format) => {
                        tool_constraint(format, tools, &ToolChoice::Required, calls.parallel, false)
                            .map_err(problem)?
                    }
                    None => None,
                };
                let constraint = match calls {
                    Some(calls) => constraint::or_tool_calls(constraint.clone(), &calls),
                    None => Ok(constraint.clone()),
                };
                let constraint = match thinking {
                    true => constraint.and_then(constraint::after_reasoning),
                    false => constraint,
                };
                constraint.map_err(schema_problem)
            };
            let loosened = match (format, calls.tools.without_schemas()) {
                (Some(_), Some(tools)) => Some(of(&tools)?),
                _ => None,
            };
            Ok(Some(OutputConstraint { constraint: of(calls.tools)?, field: field.clone(), loosened }))
        }
        (None, false) => Ok(None),
    }
}

fn logprobs(request: &ChatRequest) -> Result<Option<u8>, Problem> {
    let enabled = request.logprobs == Some(true);
    match request.top_logprobs {
        Some(top) if top > MAX_TOP_LOGPROBS => {
            let detail = format!("top_logprobs must be 0 to {MAX_TOP_LOGPROBS}");
            Err(Problem::field("top_logprobs", detail).with_limit(MAX_TOP_LOGPROBS))
        }
        Some(_) if !enabled => Err(Problem::field("top_logprobs", "only allowed with \"logprobs\": true")),
        top => Ok(enabled.then(|| u8::try_from(top.unwrap_or(0)).unwrap_or(0))),
    }
}

/// The request's template variables; `reasoning_effort` is one, and sets `enable_thinking`.
fn template_kwargs(request: &ChatRequest) -> Result<Option<Map<String, Value>>, Problem> {
    const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];
    let Some(effort) = request.reasoning_effort.as_deref() else {
        return Ok(request.chat_template_kwargs.clone());
    };
    if !EFFORTS.contains(&effort) {
        let detail = format!("reasoning_effort must be one of {}", EFFORTS.join(", "));
        return Err(Problem::field("reasoning_effort", detail));
    }
    let mut kwargs = request.chat_template_kwargs.clone().unwrap_or_default();
    kwargs.entry("reasoning_effort").or_insert_with(|| Value::from(effort));
    kwargs.entry("enable_thinking").or_insert(Value::Bool(effort != "none"));
    Ok(Some(kwargs))
}
