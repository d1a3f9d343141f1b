//! OpenAI's chat and text completions.

use std::{sync::Arc, time::UNIX_EPOCH};

use actix_web::{HttpRequest, HttpResponse, web};
use futures::stream::select_all;
use videosdgx_api::{
    Code, Problem,
    openai::{ChatChunk, ChatCompletion, ChatRequest, Completion, CompletionRequest},
};
use videosdgx_shell::{Caller, Failure, Generate, HandlerResult, body};

use crate::{
    chat::{self, answer::Heading, chunks::Wanted},
    completion,
    ready::Ready,
    service::TextService,
    sse, submission,
};

/// Go on with a conversation
///
/// OpenAI's request and answer; unknown fields are ignored, a known one of a wrong type is a 400 that names it. With
/// `stream`, chunks come as server-sent events, the last is `[DONE]`; an error after the first chunk is
/// `{"type": "error", "error": {"code", "message", "recoverable"}}`.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "completions", request_body = ChatRequest,
    responses((status = 200, description = "The answer, or chunks of it", content(
        (ChatCompletion = "application/json"), (ChatChunk = "text/event-stream")))))]
pub(crate) async fn chat(
    caller: Caller<Generate>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    service.shell.refuse_when_draining()?;
    let body = body::read_json(&request, payload).await?;
    let asked: ChatRequest = body::parse(&body)?;
    drop(body);
    let service = service.into_inner();
    service.check_model(asked.model.as_deref()).await?;
    let ready = service.ready().await?;
    let task = chat::plan::of_request(&service, &ready, &asked).await?;
    service.loaded().await?;
    let heading = heading(&service, &ready, "chatcmpl");
    let wanted = Wanted {
        logprobs: task.logprobs.is_some(),
        usage: asked.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
        parallel: asked.parallel_tool_calls.unwrap_or(true),
    };
    let principal = caller.principal.as_str();
    let outputs = submission::submit(&service, &ready, principal, &heading.id, vec![task]).await?;
    let answers = outputs.len();
    let pieces = select_all(outputs);
    if asked.stream == Some(true) {
        let chunks = chat::chunks::Chunks::new(heading, wanted, answers);
        return Ok(sse::response(chat::chunks::events(pieces, chunks), service.shell.config.heartbeat));
    }
    let whole = chat::answer::whole(pieces, answers, heading, wanted.logprobs, wanted.parallel).await?;
    Ok(HttpResponse::Ok().json(whole))
}

/// Go on with a text
///
/// OpenAI's request and answer; unknown fields are ignored, a known one of a wrong type is a 400 that names it.
#[utoipa::path(post, path = "/v1/completions", tag = "completions", request_body = CompletionRequest,
    responses((status = 200, description = "The answer, or chunks of it", content(
        (Completion = "application/json"), (Completion = "text/event-stream")))))]
pub(crate) async fn complete(
    caller: Caller<Generate>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    service.shell.refuse_when_draining()?;
    let body = body::read_json(&request, payload).await?;
    let asked: CompletionRequest = body::parse(&body)?;
    drop(body);
    let service = service.into_inner();
    service.check_model(asked.model.as_deref()).await?;
    let ready = service.ready().await?;
    let completion::plan::Plan { tasks, echoes, n } = completion::plan::of_request(&ready, &asked).await?;
    service.loaded().await?;
    let heading = heading(&service, &ready, "cmpl");
    let with_logprobs = asked.logprobs.is_some();
    let principal = caller.principal.as_str();
    let outputs = submission::submit(&service, &ready, principal, &heading.id, tasks).await?;
    let echoes: Vec<String> =
        echoes.into_iter().flat_map(|echo| std::iter::repeat_n(echo, n as usize)).collect();
    let pieces = select_all(outputs);
    if asked.stream == Some(true) {
        let with_usage = asked.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        let chunks = completion::chunks::Chunks::new(heading, with_usage, with_logprobs, echoes, n);
        return Ok(sse::response(completion::chunks::events(pieces, chunks), service.shell.config.heartbeat));
    }
    Ok(HttpResponse::Ok().json(completion::answer::whole(pieces, echoes, n, heading, with_logprobs).await?))
}

fn heading(service: &TextService, ready: &Ready, prefix: &str) -> Heading {
    Heading {
        id: format!("{prefix}-{}", uuid::Uuid::new_v4().simple()),
        created: unix_seconds(),
        model: service.name().to_owned(),
        fingerprint: ready.fingerprint.clone(),
    }
}

pub(crate) fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl TextService {
    /// There is one model; the checkpoint's name names it too.
    pub(crate) async fn check_model(self: &Arc<Self>, asked: Option<&str>) -> HandlerResult<()> {
        let Some(asked) = asked.filter(|asked| *asked != self.name()) else { return Ok(()) };
        let front = Arc::clone(&self.front);
        let described = videosdgx_shell::run_blocking(move || front.describe()).await?;
        if described.is_ok_and(|model| model.checkpoint == asked) {
            return Ok(());
        }
        let shown: String = asked.chars().take(100).collect();
        let detail = format!("there is no model {shown:?}; there is {}", self.name());
        let mut problem = Problem::new(Code::ModelNotFound, detail);
        problem.field = Some("model".to_owned());
        Err(Failure(problem))
    }
}
