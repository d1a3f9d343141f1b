//! OpenAI's chat and text completions.

use actix_web::{HttpRequest, HttpResponse, web};
use futures::{
    StreamExt as _,
    stream::{self, select_all},
};
use videosdgx_api::openai::{ChatChunk, ChatCompletion, ChatRequest, Completion, CompletionRequest};
use videosdgx_shell::{Caller, Generate, HandlerResult, body};

use crate::{
    chat::{
        self,
        chunks::{ChunkEncoder, ChunkOptions},
    },
    completion::{self, request::CompletionTasks},
    response::ResponseHeader,
    runtime::ModelRuntime,
    service::{TextService, unix_seconds},
    sse, submission,
};

/// Create a chat completion
///
/// OpenAI's request and response. Unknown fields are ignored; a known field with a wrong type is a 400 that names it. With
/// `stream`, chunks are sent as server-sent events, the last is `[DONE]`; an error after the first chunk is
/// `{"type": "error", "error": {"code", "message", "recoverable"}}`.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "completions", request_body = ChatRequest,
    responses((status = 200, description = "The completion, or chunks of it", content(
        (ChatCompletion = "application/json"), (ChatChunk = "text/event-stream")))))]
pub(crate) async fn chat(
    caller: Caller<Generate>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    service.shell.refuse_when_draining()?;
    let body = body::read_json(&request, payload, &caller.principal).await?;
    let (request, lease) = body.parse::<ChatRequest>().await?;
    let service = service.into_inner();
    service.check_required_model(request.model.as_deref()).await?;
    let runtime = service.runtime().await?;
    submission::refuse_when_full(&runtime, caller.principal.as_str())?;
    let task = chat::request::task_of_request(&runtime, &request).await?;
    drop(lease);
    service.load(&runtime).await?;
    let header = response_header(&service, &runtime, "chatcmpl");
    let options = ChunkOptions {
        logprobs: task.logprobs.is_some(),
        usage: request.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        tools: task.tools.as_ref().is_some_and(|tools| !tools.is_empty()),
    };
    let principal = caller.principal.as_str();
    let outputs = submission::submit(&runtime, principal, &header.id, vec![task]).await?;
    let answers = outputs.len();
    let outputs = select_all(outputs);
    if request.stream == Some(true) {
        let events = chat::chunks::events(outputs, ChunkEncoder::new(header, options, answers));
        return Ok(sse::response(events, service.shell.config.heartbeat));
    }
    let ChunkOptions { logprobs, parallel_tool_calls, .. } = options;
    let response = chat::response::collect(outputs, answers, header, logprobs, parallel_tool_calls).await?;
    Ok(HttpResponse::Ok().json(response))
}

/// Create a completion
///
/// OpenAI's request and response. Unknown fields are ignored; a known field with a wrong type is a 400 that names it.
#[utoipa::path(post, path = "/v1/completions", tag = "completions", request_body = CompletionRequest,
    responses((status = 200, description = "The completion, or chunks of it", content(
        (Completion = "application/json"), (Completion = "text/event-stream")))))]
pub(crate) async fn complete(
    caller: Caller<Generate>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    service.shell.refuse_when_draining()?;
    let body = body::read_json(&request, payload, &caller.principal).await?;
    let (request, lease) = body.parse::<CompletionRequest>().await?;
    let service = service.into_inner();
    service.check_required_model(request.model.as_deref()).await?;
    let runtime = service.runtime().await?;
    submission::refuse_when_full(&runtime, caller.principal.as_str())?;
    let CompletionTasks { tasks, echoes, n } =
        completion::request::tasks_of_request(&runtime, &request).await?;
    drop(lease);
    let header = response_header(&service, &runtime, "cmpl");
    let with_logprobs = request.logprobs.is_some();
    let principal = caller.principal.as_str();
    let outputs = if request.max_tokens == Some(0) {
        stream::iter(submission::empty_outputs(&tasks)).left_stream()
    } else {
        service.load(&runtime).await?;
        let outputs = submission::submit(&runtime, principal, &header.id, tasks).await?;
        select_all(outputs).right_stream()
    };
    let echoes: Vec<String> =
        echoes.into_iter().flat_map(|echo| std::iter::repeat_n(echo, n as usize)).collect();
    if request.stream == Some(true) {
        let with_usage = request.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        let encoder = completion::chunks::ChunkEncoder::new(header, with_usage, with_logprobs, echoes, n);
        return Ok(sse::response(
            completion::chunks::events(outputs, encoder),
            service.shell.config.heartbeat,
        ));
    }
    let response = completion::response::collect(outputs, echoes, n, header, with_logprobs).await?;
    Ok(HttpResponse::Ok().json(response))
}

fn response_header(service: &TextService, runtime: &ModelRuntime, prefix: &str) -> ResponseHeader {
    ResponseHeader {
        id: format!("{prefix}-{}", uuid::Uuid::new_v4().simple()),
        created: unix_seconds(),
        model: service.name().to_owned(),
        fingerprint: runtime.fingerprint.clone(),
    }
}
