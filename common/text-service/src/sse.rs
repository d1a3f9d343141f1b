//! Server-sent events: one `data:` each, and a comment when nothing came for a while.

use std::{convert::Infallible, time::Duration};

use actix_web::{HttpResponse, http::header, web::Bytes};
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;

/// One event.
pub(crate) fn data(value: &impl Serialize) -> Bytes {
    // JSON has no raw line breaks, so the data is one line.
    let json = serde_json::to_string(value).unwrap_or_default();
    Bytes::from(format!("data: {json}\n\n"))
}

/// A comment, which clients do not see.
pub(crate) fn comment(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_default();
    Bytes::from(format!(": {json}\n\n"))
}

/// The end of a stream of OpenAI's.
pub(crate) fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

/// `events` with a comment each time that nothing came for `every`.
pub(crate) fn alive(
    events: impl Stream<Item = Bytes> + 'static,
    every: Duration,
    beat: &'static [u8],
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(Box::pin(events), move |mut events| async move {
        match tokio::time::timeout(every, events.next()).await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), events)),
            Err(_) => Some((Ok(Bytes::from_static(beat)), events)),
        }
    })
}

/// The answer.
pub(crate) fn response(events: impl Stream<Item = Bytes> + 'static, every: Duration) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/event-stream; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(alive(events, every, b": still here\n\n"))
}
