//! `POST /stream/generate`: one prompt, many, or a body of lines that is read as it arrives.

use std::{convert::Infallible, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Bytes},
};
use futures::{FutureExt as _, Stream, StreamExt as _, future, stream};
use videosdgx_api::{Code, Problem, ServerEvent, ServerMessage, StreamBatch, StreamGenerate, StreamProblem};
use videosdgx_shell::{Caller, Generate, HandlerResult, body};
use videosdgx_text::{
    OutputParser,
    streaming::{GenerateOptions, Prompts, StreamInput, StreamingComputationEngine},
};

use crate::{
    failed,
    limits::MAX_PROMPTS,
    output::Reader,
    ready::Ready,
    service::TextService,
    sse,
    stream::{
        events::Events,
        lines::{Line, Lines},
        plan,
    },
    submission::{self, Task},
};

const NDJSON: &str = "application/x-ndjson";
/// Longest line of an NDJSON body.
const MAX_LINE: usize = 16 << 20;
/// A body of lines may rest so long between two pieces.
const LINE_TIME: Duration = Duration::from_secs(120);

/// What is asked of one output, or why that cannot be read; with its line.
type Item = (Option<u64>, Result<Box<StreamGenerate>, Problem>);

/// Generate from one prompt, many, or a body of lines
///
/// JSON: a prompt or many with the same settings. `application/x-ndjson`: a `generate` message of the WebSocket a line (its
/// `type` may be left out), read as it arrives; a line that cannot be used is an error with its number, the others go on.
/// Results come as they are made, with `index`, the prompt's number, as lines of JSON, or as server-sent events with
/// `Accept: text/event-stream`.
#[utoipa::path(post, path = "/stream/generate", tag = "streams",
    request_body(content((StreamBatch = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "Results as they are made", content(
        (String = "application/x-ndjson"), (ServerMessage = "text/event-stream")))))]
pub(crate) async fn generate(
    caller: Caller<Generate>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    service.shell.refuse_when_draining()?;
    let service = service.into_inner();
    let as_events = wants_events(&request);
    let principal = caller.principal.as_str().to_owned();
    let every = service.shell.config.heartbeat;
    let results = if is_lines(&request) {
        let ready = service.loaded().await?;
        answers(service, ready, principal, lines(payload).boxed_local())
    } else {
        let body = body::read_json(&request, payload).await?;
        let batch: StreamBatch = body::parse(&body)?;
        drop(body);
        let ready = service.ready().await?;
        let mut items = split(batch)?;
        // One prompt that cannot be used is a refusal as any other; of many, each is told in its place.
        if let [(_, Ok(only))] = items.as_slice() {
            plan::of_generate(&service, &ready, (**only).clone()).await?;
        }
        service.loaded().await?;
        items.reverse();
        let items = stream::iter(std::iter::from_fn(move || items.pop()));
        answers(service, ready, principal, items.boxed_local())
    };
    if as_events {
        return Ok(sse::response(results.map(|message| sse::data(&message)), every));
    }
    Ok(HttpResponse::Ok()
        .content_type(NDJSON)
        .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(results.map(|message| Ok::<_, Infallible>(line(&message)))))
}

fn line(message: &ServerMessage) -> Bytes {
    let mut text = serde_json::to_vec(message).unwrap_or_default();
    text.push(b'\n');
    Bytes::from(text)
}

fn is_lines(request: &HttpRequest) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    matches!(kind.as_str(), NDJSON | "application/ndjson" | "application/jsonl")
}

fn wants_events(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    let mut kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or("").trim());
    kinds.find(|kind| matches!(*kind, NDJSON | "text/event-stream" | "*/*")) == Some("text/event-stream")
}

/// Each prompt of a batch with the batch's settings.
fn split(batch: StreamBatch) -> Result<Vec<Item>, Problem> {
    let StreamBatch { prompt, messages, system_prompt, max_tokens, params } = batch;
    let one = StreamGenerate { system_prompt, max_tokens, params, ..StreamGenerate::default() };
    let prompts = match (prompt, messages) {
        (None, messages) => return Ok(vec![(None, Ok(Box::new(StreamGenerate { messages, ..one })))]),
        (Some(_), Some(_)) => {
            return Err(Problem::field("messages", "send prompts or messages, not both"));
        }
        (Some(prompt), None) => prompt.into_texts(),
    };
    if !(1..=MAX_PROMPTS).contains(&prompts.len()) {
        let detail = format!("a body has 1 to {MAX_PROMPTS} prompts; send more as {NDJSON}");
        return Err(Problem::field("prompt", detail).with_limit(MAX_PROMPTS));
    }
    let each = |prompt| (None, Ok(Box::new(StreamGenerate { prompt: Some(prompt), ..one.clone() })));
    Ok(prompts.into_iter().map(each).collect())
}

/// The lines of a body as they arrive.
fn lines(payload: web::Payload) -> impl Stream<Item = Item> {
    let open = Some((payload, Lines::new(MAX_LINE)));
    stream::unfold(open, |open| async move {
        let (mut payload, mut lines) = open?;
        let found: Vec<Item> = match tokio::time::timeout(LINE_TIME, payload.next()).await {
            Ok(Some(Ok(bytes))) => {
                let items = lines.push(&bytes).into_iter().map(item).collect();
                return Some((stream::iter::<Vec<Item>>(items), Some((payload, lines))));
            }
            Ok(None) => lines.finish().map(item).into_iter().collect(),
            Ok(Some(Err(error))) => {
                let problem = Problem::new(Code::InvalidBody, format!("the body cannot be read: {error}"));
                vec![(None, Err(problem))]
            }
            Err(_) => {
                let seconds = LINE_TIME.as_secs();
                let problem = Problem::new(Code::RequestTimeout, format!("no line came for {seconds} s"));
                vec![(None, Err(problem))]
            }
        };
        Some((stream::iter(found), None))
    })
    .flatten()
}

fn item((number, line): Line) -> Item {
    let Some(line) = line else {
        let problem = Problem::new(Code::BodyTooLarge, format!("a line has at most {MAX_LINE} bytes"));
        return (Some(number), Err(problem.with_limit(MAX_LINE)));
    };
    // A bare string is a prompt.
    if line.trim_ascii_start().starts_with(b"\"") {
        let read = serde_json::from_slice::<String>(&line);
        let read = read.map_err(|error| Problem::new(Code::InvalidBody, format!("that is no JSON: {error}")));
        let generate =
            |prompt| Box::new(StreamGenerate { prompt: Some(prompt), ..StreamGenerate::default() });
        return (Some(number), read.map(generate));
    }
    (Some(number), body::parse::<StreamGenerate>(&line).map(Box::new).map_err(|failure| failure.0))
}

/// Results of all items, at most so many at once as the streaming engine gives a request places; items are read when there is
/// one.
fn answers(
    service: Arc<TextService>,
    ready: Arc<Ready>,
    principal: String,
    items: stream::LocalBoxStream<'static, Item>,
) -> stream::LocalBoxStream<'static, ServerMessage> {
    let streaming = ready.streaming.apart();
    let places = streaming.config().max_concurrent_requests;
    let each = move |(index, (line, item)): (usize, Item)| {
        let (service, ready, principal) = (Arc::clone(&service), Arc::clone(&ready), principal.clone());
        let streaming = streaming.clone();
        async move {
            let request_id = item.as_ref().ok().and_then(|asked| asked.request_id.clone());
            let envelope = {
                let request_id = request_id.clone();
                move |event| ServerMessage {
                    request_id: request_id.clone(),
                    index: Some(index as u64),
                    event,
                }
            };
            let task = match item {
                Ok(asked) => plan::of_generate(&service, &ready, *asked).await.map_err(|failure| failure.0),
                Err(problem) => Err(problem),
            };
            match task {
                Ok(task) => {
                    run(&service, (&ready, &streaming), principal, task, line).map(envelope).boxed_local()
                }
                Err(problem) => stream::once(future::ready(envelope(refused(problem, line)))).boxed_local(),
            }
        }
        .flatten_stream()
        .boxed_local()
    };
    items.enumerate().map(each).flatten_unordered(places).boxed_local()
}

fn refused(problem: Problem, line: Option<u64>) -> ServerEvent {
    ServerEvent::Error { error: StreamProblem { line, ..failed::refused(problem) } }
}

/// Events of one task.
fn run(
    service: &TextService,
    (ready, streaming): (&Ready, &StreamingComputationEngine),
    principal: String,
    task: Task,
    line: Option<u64>,
) -> impl Stream<Item = ServerEvent> + 'static {
    let Task { written, choosing, structure, logprobs, parse } = task;
    let field = structure.as_ref().map(|structure| structure.field.clone());
    let name = uuid::Uuid::new_v4().simple().to_string();
    let parser = parse.map(|tools| OutputParser::new(ready.format, tools, written.thinking, &name));
    let stops = choosing.stop.strings.clone();
    let options = GenerateOptions {
        max_new_tokens: choosing.stop.max_tokens,
        sampling: choosing.sampling,
        stop_token_ids: choosing.stop.token_ids,
        stop_strings: choosing.stop.strings,
        ignore_end: choosing.stop.ignore_end,
        constraint: structure.map(|structure| structure.constraint),
        logprobs,
        priority: choosing.priority,
        deadline: choosing.deadline,
        principal,
    };
    let results = streaming.generate_stream(Prompts::One(StreamInput::Tokens(written.prompt)), options);
    let mut reader = Reader::new(parser, stops, service.metrics.clone());
    let mut events = Events::default();
    results.flat_map(move |result| {
        stream::iter(match result.output {
            Ok(event) => events.of(reader.piece(event)),
            Err(error) => vec![refused(submission::refusal(error, field.as_deref()), line)],
        })
    })
}
