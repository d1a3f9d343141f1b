//! `POST /stream/generate`: one prompt, several, or a body of lines that is read while it arrives.

use std::{convert::Infallible, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Bytes},
};
use futures::{FutureExt as _, Stream, StreamExt as _, future, stream};
use tokio::time::Instant;
use videosdgx_api::{
    Code, Problem, ServerEvent, ServerMessage, StreamBatch, StreamGenerate, StreamProblem,
    accepted_media_types, media_type,
};
use videosdgx_connection::{BodyLease, Pace};
use videosdgx_shell::{Caller, Generate, HandlerResult, body, run_blocking};
use videosdgx_text::{PreparedConstraint, streaming::StreamingComputationEngine};

use crate::{
    errors,
    limits::MAX_PROMPTS,
    runtime::ModelRuntime,
    service::TextService,
    sse,
    stream::{
        events::EventEncoder,
        lines::{Line, LineSplitter},
        request::task_of_generate,
    },
    submission::{self, GenerationTask},
};

const NDJSON: &str = "application/x-ndjson";
/// Maximum length of a line of an NDJSON body in bytes.
const MAX_LINE: usize = 16 << 20;
/// Maximum number of bytes of an NDJSON body.
const MAX_LINES_BYTES: usize = 256 << 20;
/// Maximum time that an NDJSON body may take.
const MAX_LINES_TIME: Duration = Duration::from_secs(3600);
/// Maximum pause between two lines; within a line the pace of every body applies.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// One request, or why it is invalid; with its line number.
type Item = (Option<u64>, Result<Box<StreamGenerate>, Problem>);

/// Generate from one prompt, many, or a body of lines
///
/// JSON: one prompt, or several with the same settings. `application/x-ndjson`: each line is a `generate` message of the
/// WebSocket (`type` is optional), read while the body arrives; an invalid line gives an error with its number, the others
/// continue. Results are sent as they are generated, each with the prompt's `index`, as lines of JSON, or as server-sent
/// events with `Accept: text/event-stream`.
#[utoipa::path(post, path = "/stream/generate", tag = "streams",
    request_body(content((StreamBatch = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "Results as they are generated", content(
        (String = "application/x-ndjson"), (ServerMessage = "text/event-stream")))))]
pub(crate) async fn generate(
    caller: Caller<Generate>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    service.shell.refuse_when_draining()?;
    let service = service.into_inner();
    let as_events = accepts_events(&request);
    let principal = caller.principal.as_str().to_owned();
    let heartbeat = service.shell.config.heartbeat;
    let results = if is_lines(&request) {
        body::refuse_encoded(&request)?;
        let runtime = service.loaded_runtime().await?;
        results(
            runtime,
            principal,
            lines(payload, service.shell.bodies.lease(&caller.principal)).boxed_local(),
        )
    } else {
        let body = body::read_json(&request, payload, &caller.principal).await?;
        let (batch, _lease) = body.parse::<StreamBatch>().await?;
        let runtime = service.runtime().await?;
        let mut items = split(batch)?;
        // An invalid single prompt is refused with an error status; of several prompts, each invalid one gets an error event.
        if let [(_, Ok(only))] = items.as_slice() {
            task_of_generate(&runtime, (**only).clone()).await?;
        }
        service.load(&runtime).await?;
        items.reverse();
        let items = stream::iter(std::iter::from_fn(move || items.pop()));
        results(runtime, principal, items.boxed_local())
    };
    if as_events {
        return Ok(sse::response(results.map(|message| sse::data(&message)), heartbeat));
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
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| media_type(value.to_str().ok()?));
    kind.is_some_and(|kind| matches!(kind.essence_str(), NDJSON | "application/ndjson" | "application/jsonl"))
}

fn accepts_events(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    accepted_media_types(accept)
        .find(|kind| matches!(kind.essence_str(), NDJSON | "text/event-stream" | "*/*"))
        .is_some_and(|kind| kind.essence_str() == "text/event-stream")
}

/// One request for each prompt of a batch, with the batch's settings.
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
        let detail = format!("a body must have 1 to {MAX_PROMPTS} prompts; send more of them as {NDJSON}");
        return Err(Problem::field("prompt", detail).with_limit(MAX_PROMPTS));
    }
    let each = |prompt| (None, Ok(Box::new(StreamGenerate { prompt: Some(prompt), ..one.clone() })));
    Ok(prompts.into_iter().map(each).collect())
}

/// A body of lines that is read while it arrives.
struct LineReader {
    payload: web::Payload,
    lines: LineSplitter,
    /// Counts the incomplete line as held.
    lease: BodyLease,
    received: usize,
    deadline: Instant,
    pace: Pace,
    within_line: bool,
}

impl LineReader {
    fn new(payload: web::Payload, lease: BodyLease) -> Self {
        let deadline = Instant::now() + MAX_LINES_TIME;
        let (lines, pace) = (LineSplitter::new(MAX_LINE), pause_between_lines(deadline));
        Self { payload, lines, lease, received: 0, deadline, pace, within_line: false }
    }

    /// The requests of the lines that the next bytes complete; `None` at the end of the body.
    async fn next(&mut self) -> HandlerResult<Option<Vec<Item>>> {
        let Some(bytes) = body::next_chunk(&mut self.payload, &mut self.pace).await? else { return Ok(None) };
        self.received += bytes.len();
        if self.received > MAX_LINES_BYTES {
            let problem =
                Problem::new(Code::BodyTooLarge, format!("the body has at most {MAX_LINES_BYTES} bytes"));
            return Err(problem.with_limit(MAX_LINES_BYTES).into());
        }
        // Before the bytes are copied.
        body::hold(&mut self.lease, (self.lines.held() + bytes.len()).min(MAX_LINE))?;
        let complete = self.lines.push(&bytes);
        let within_line = self.lines.is_within_line();
        if within_line != self.within_line || !complete.is_empty() {
            self.within_line = within_line;
            self.pace = if within_line { body::pace() } else { pause_between_lines(self.deadline) };
        }
        let mut items = Vec::with_capacity(complete.len());
        for line in complete {
            items.push(parse_line(line).await?);
        }
        Ok(Some(items))
    }
}

/// Between two lines a body may pause.
fn pause_between_lines(deadline: Instant) -> Pace {
    let now = Instant::now();
    Pace::new(now, READ_TIMEOUT, 0, deadline.saturating_duration_since(now))
}

/// The requests of a body of lines.
fn lines(payload: web::Payload, lease: BodyLease) -> impl Stream<Item = Item> {
    stream::unfold(Some(LineReader::new(payload, lease)), |reader| async move {
        let mut reader = reader?;
        Some(match reader.next().await {
            Ok(Some(items)) => (stream::iter(items), Some(reader)),
            Ok(None) => {
                let last: Vec<Item> = reader.lines.finish().map(item).into_iter().collect();
                (stream::iter(last), None)
            }
            Err(failure) => (stream::iter(vec![(None, Err(failure.0))]), None),
        })
    })
    .flatten()
}

/// Parses a long line off the threads that serve.
async fn parse_line(line: Line) -> HandlerResult<Item> {
    let is_long = line.1.as_ref().is_some_and(|bytes| bytes.len() > body::PARSED_AT_ONCE);
    if is_long { run_blocking(move || item(line)).await } else { Ok(item(line)) }
}

fn item((number, line): Line) -> Item {
    let Some(line) = line else {
        let problem = Problem::new(Code::BodyTooLarge, format!("a line has at most {MAX_LINE} bytes"));
        return (Some(number), Err(problem.with_limit(MAX_LINE)));
    };
    // A bare string is a prompt.
    if line.trim_ascii_start().starts_with(b"\"") {
        let read = serde_json::from_slice::<String>(&line);
        let read = read
            .map_err(|error| Problem::new(Code::InvalidBody, format!("the line is not valid JSON: {error}")));
        let generate =
            |prompt| Box::new(StreamGenerate { prompt: Some(prompt), ..StreamGenerate::default() });
        return (Some(number), read.map(generate));
    }
    (Some(number), body::parse::<StreamGenerate>(&line).map(Box::new).map_err(|failure| failure.0))
}

/// Results of all items. At most `max_concurrent_requests` of them run at once; further items are read when one has ended.
fn results(
    runtime: Arc<ModelRuntime>,
    principal: String,
    items: stream::LocalBoxStream<'static, Item>,
) -> stream::LocalBoxStream<'static, ServerMessage> {
    let streaming = runtime.streaming.with_own_slots();
    let max_concurrent = streaming.config().max_concurrent_requests;
    let principal: Arc<str> = principal.into();
    let item_results = move |(index, (line, item)): (usize, Item)| {
        let (runtime, principal, streaming) =
            (Arc::clone(&runtime), Arc::clone(&principal), streaming.clone());
        async move {
            let request_id = item.as_ref().ok().and_then(|request| request.request_id.clone());
            let message = move |event| ServerMessage {
                request_id: request_id.clone(),
                index: Some(index as u64),
                event,
            };
            let task = match item {
                Ok(request) => prepared_task(&runtime, &principal, *request).await,
                Err(problem) => Err(problem),
            };
            match task {
                Ok((task, prepared)) => run(&runtime, &streaming, &principal, task, line)
                    .map(move |event| {
                        // Held until the engine has it.
                        let _ = &prepared;
                        message(event)
                    })
                    .boxed_local(),
                Err(problem) => stream::once(future::ready(message(refused(problem, line)))).boxed_local(),
            }
        }
        .flatten_stream()
        .boxed_local()
    };
    items.enumerate().map(item_results).flatten_unordered(max_concurrent).boxed_local()
}

/// The task of a request, with its compiled constraint.
async fn prepared_task(
    runtime: &Arc<ModelRuntime>,
    principal: &str,
    request: StreamGenerate,
) -> Result<(GenerationTask, Option<PreparedConstraint>), Problem> {
    let mut task = task_of_generate(runtime, request).await.map_err(|failure| failure.0)?;
    let prepared = submission::prepare(runtime, principal, &mut task).await?;
    Ok((task, prepared))
}

fn refused(problem: Problem, line: Option<u64>) -> ServerEvent {
    ServerEvent::Error { error: StreamProblem { line, ..errors::refusal(problem) } }
}

/// Events of one task.
fn run(
    runtime: &ModelRuntime,
    streaming: &StreamingComputationEngine,
    principal: &str,
    task: GenerationTask,
    line: Option<u64>,
) -> impl Stream<Item = ServerEvent> + use<> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let mut reader = task.output_reader(runtime);
    let mut encoder = EventEncoder::default();
    let results = streaming.stream_request(task.engine_request(principal, id, 0));
    results.flat_map(move |result| {
        stream::iter(match result.output {
            Ok(event) => encoder.encode(reader.read(event)),
            Err(error) => vec![refused(task.refusal(error), line)],
        })
    })
}
