//! Server-sent events, with a comment as keep-alive.

use std::{convert::Infallible, time::Duration};

use actix_web::{HttpResponse, http::header, web::Bytes};
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;

/// One event with this value as its `data:`.
pub(crate) fn data(value: &impl Serialize) -> Bytes {
    // JSON has no raw line breaks, so the data is one line.
    let json = serde_json::to_string(value).unwrap_or_default();
    Bytes::from(format!("data: {json}\n\n"))
}

/// A comment, which clients ignore.
pub(crate) fn comment(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_default();
    Bytes::from(format!(": {json}\n\n"))
}

/// The last event of OpenAI's streams.
pub(crate) fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

/// `events`, with the comment `keep_alive` whenever nothing was sent for `interval`.
fn with_keep_alive(
    events: impl Stream<Item = Bytes> + 'static,
    interval: Duration,
    keep_alive: &'static [u8],
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(Box::pin(events), move |mut events| async move {
        match tokio::time::timeout(interval, events.next()).await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), events)),
            Err(_) => Some((Ok(Bytes::from_static(keep_alive)), events)),
        }
    })
}

/// The response that streams `events`.
pub(crate) fn response(events: impl Stream<Item = Bytes> + 'static, interval: Duration) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/event-stream; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(with_keep_alive(events, interval, b": still here\n\n"))
}
