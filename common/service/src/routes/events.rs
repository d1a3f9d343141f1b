//! Progress as server-sent events, which can be resumed; comments are sent when nothing happens.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use futures::{Stream, StreamExt as _, stream};
use tokio::{sync::watch, time::Interval};
use videosdgx_api::{EventKind, JobEvent, Problem};
use videosdgx_jobs::EventStream;
use videosdgx_shell::{Caller, Failure, HandlerResult, Query, Read};

use crate::{job_path::JobPath, problem_response::queue_failure, service::Service};

const LAST_EVENT_ID: &str = "Last-Event-ID";
/// How long a client waits before it reconnects.
const RETRY_MILLISECONDS: u32 = 2_000;

/// Progress as server-sent events
///
/// `id:` is the event's sequence number, `event:` is `state` or `progress`, `data:` a `JobEvent`. Sent back as
/// `Last-Event-ID`, the number resumes after that event. The stream ends after the final state; when the service shuts
/// down it ends with an `event: reconnect`. A comment every 15 seconds keeps it open.
#[utoipa::path(get, path = "/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"),
        ("Last-Event-ID" = Option<String>, Header, pattern = "^[0-9]{1,18}$", description = "Resume after this event"),
        ("last_event_id" = Option<u64>, Query, minimum = 0, maximum = 999_999_999_999_999_999_u64,
            description = "The same, for clients that cannot set headers")),
    responses(
        (status = 200, description = "Events", content_type = "text/event-stream", body = ServerSentEvent),
        (status = 204, description = "The job has ended and all its events were seen: do not come again")))]
pub(crate) async fn events(
    caller: Caller<Read>,
    id: JobPath,
    request: HttpRequest,
    service: web::Data<Service>,
) -> HandlerResult {
    let after = last_event_id(&request)?;
    let record = service.queue.get(&caller.principal, &id.0).await.map_err(queue_failure)?;
    if record.status.is_terminal() && after >= record.sequence {
        // 204 makes an `EventSource` stop reconnecting.
        return Ok(HttpResponse::NoContent().finish());
    }
    let events = service.queue.subscribe(&caller.principal, &id.0, after).await.map_err(queue_failure)?;
    let body = sse(
        events,
        service.shell.drain.watch(),
        service.shell.config.heartbeat,
        StreamCount::new(service.clone()),
    );
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body))
}

fn last_event_id(request: &HttpRequest) -> HandlerResult<u64> {
    let query = Query::of(request, &["last_event_id"])?;
    let from_query = query.integer("last_event_id", 0..=999_999_999_999_999_999)?;
    let Some(header) = request.headers().get(LAST_EVENT_ID) else { return Ok(from_query.unwrap_or(0)) };
    let digits = header.as_bytes();
    let sound = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number = header.to_str().ok().filter(|_| sound).and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        Failure(Problem::field(LAST_EVENT_ID, format!("{LAST_EVENT_ID} is the id of an event seen before")))
    })
}

/// One event of the stream, for the document.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "events are written as text; this names their parts")]
pub(crate) struct ServerSentEvent {
    /// The event's sequence number; absent on `reconnect`.
    #[schema(pattern = "^[0-9]+$")]
    id: Option<String>,
    /// `state`, `progress`, or `reconnect` when the stream ends before the job.
    event: String,
    /// A `JobEvent` as JSON; of `reconnect`, `{"reason", "retry_milliseconds"}`.
    data: String,
}

/// Counts open streams.
struct StreamCount(web::Data<Service>);

impl StreamCount {
    fn new(service: web::Data<Service>) -> Self {
        service.metrics.event_stream_opened();
        Self(service)
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.metrics.event_stream_closed();
    }
}

struct Open<C> {
    events: EventStream,
    draining: watch::Receiver<bool>,
    heartbeat: Interval,
    last_seen_terminal: bool,
    greeted: bool,
    _count: C,
}

enum Next {
    Event(Option<JobEvent>),
    Draining,
    Heartbeat,
}

impl<C> Open<C> {
    async fn next(&mut self) -> Next {
        tokio::select! {
            biased;
            event = self.events.next() => Next::Event(event),
            _ = self.draining.wait_for(|draining| *draining) => Next::Draining,
            _ = self.heartbeat.tick() => Next::Heartbeat,
        }
    }
}

/// The text of the stream; `count` is dropped with it.
fn sse<C>(
    events: EventStream,
    draining: watch::Receiver<bool>,
    every: Duration,
    count: C,
) -> impl Stream<Item = Result<web::Bytes, std::convert::Infallible>> {
    let heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    let open = Open { events, draining, heartbeat, last_seen_terminal: false, greeted: false, _count: count };
    stream::unfold(Some(open), |open| async move {
        let mut open = open?;
        if !open.greeted {
            open.greeted = true;
            return Some((chunk(format!("retry: {RETRY_MILLISECONDS}\n\n")), Some(open)));
        }
        match open.next().await {
            Next::Event(Some(event)) => {
                open.last_seen_terminal = event.kind == EventKind::State && event.status.is_terminal();
                Some((chunk(frame(&event)), Some(open)))
            }
            Next::Event(None) if open.last_seen_terminal => None,
            // The queue closed, or this client fell too far behind.
            Next::Event(None) => Some((chunk(reconnect("resume")), None)),
            Next::Draining => Some((chunk(reconnect("draining")), None)),
            Next::Heartbeat => Some((chunk(": still here\n\n".to_owned()), Some(open))),
        }
    })
}

fn chunk(text: String) -> Result<web::Bytes, std::convert::Infallible> {
    Ok(web::Bytes::from(text))
}

fn frame(event: &JobEvent) -> String {
    // JSON has no raw line breaks, so the data is one line.
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.sequence, event.kind.as_str())
}

/// Without an `id:`, so that the client resumes after the last real event.
fn reconnect(reason: &str) -> String {
    format!(
        "event: reconnect\ndata: {{\"reason\":\"{reason}\",\"retry_milliseconds\":{RETRY_MILLISECONDS}}}\n\n"
    )
}
