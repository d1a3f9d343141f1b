//! Limits on request bodies: their size and how fast they must come.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use videosdgx_api::{Code, media_type};
use videosdgx_connection::{Pace, TooSlow};

use crate::Gateway;
use crate::config::duration;
use crate::failure::Failure;

/// Lowest rate of a body in every window.
const MIN_BYTES_PER_SECOND: f64 = 16.0 * 1024.0;
/// Longest time of a body of lines.
const LINES_TOTAL: Duration = Duration::from_secs(3600);

/// Observes the body of a request.
pub(crate) struct BodyMonitor {
    fault: Option<Arc<AtomicU8>>,
    max: u64,
}

impl BodyMonitor {
    /// Wraps the body so that it fails at the size limit and when it comes too slowly. Nothing is buffered.
    pub(crate) fn wrap(gateway: &Gateway, request: Request) -> Result<(Request, Self), Failure> {
        let limits = &gateway.config.limits;
        let max = limits.max_body_bytes;
        if request.body().is_end_stream() {
            return Ok((request, Self { fault: None, max }));
        }
        let length =
            request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > max) {
            return Err(too_large(max));
        }
        let fault = Arc::new(AtomicU8::new(NONE));
        let shared = Arc::clone(&fault);
        let pace = if is_line_stream(&request) {
            pace_of_lines(duration(limits.socket_idle_seconds))
        } else {
            pace_of_body(duration(limits.body_window_seconds), duration(limits.body_seconds))
        };
        let request = request.map(|body| Body::new(PacedBody::new(body, max, pace, shared)));
        Ok((request, Self { fault: Some(fault), max }))
    }

    /// Fails when the body broke a limit, whatever the service answered.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.fault.as_ref().map_or(NONE, |fault| fault.load(Ordering::Acquire)) {
            TOO_LARGE => Err(too_large(self.max)),
            TOO_SLOW => Err(Failure::new(Code::InvalidBody, "the body came too slowly")
                .map(|problem| problem.status = http::StatusCode::REQUEST_TIMEOUT.as_u16())),
            BROKEN => Err(Failure::new(Code::InvalidBody, "the body ended early or its chunks are invalid")),
            _ => Ok(()),
        }
    }
}

/// Whether the body is a stream of prompts, which may pause while earlier ones are answered.
fn is_line_stream(request: &Request) -> bool {
    const LINES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];
    request.uri().path().ends_with("/stream/generate")
        && request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| media_type(value.to_str().ok()?))
            .is_some_and(|kind| LINES.contains(&kind.essence_str()))
}

fn too_large(max: u64) -> Failure {
    let detail = format!("the body is larger than {max} bytes");
    Failure::new(Code::BodyTooLarge, detail).map(|problem| problem.limit = Some(max.into()))
}

const NONE: u8 = 0;
const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;
const BROKEN: u8 = 3;

/// At least [`MIN_BYTES_PER_SECOND`] in every window, and everything within `total`.
fn pace_of_body(window: Duration, total: Duration) -> Pace {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 86,400 s")]
    let minimum = (window.as_secs_f64() * MIN_BYTES_PER_SECOND) as u64;
    Pace::new(Instant::now(), window, minimum, total)
}

/// No pause longer than `idle`, without a minimum rate.
fn pace_of_lines(idle: Duration) -> Pace {
    Pace::new(Instant::now(), idle, 0, LINES_TOTAL)
}

struct PacedBody {
    inner: Body,
    received: u64,
    max: u64,
    pace: Pace,
    /// When the pace is checked again; set while nothing comes.
    timer: Option<Pin<Box<Sleep>>>,
    fault: Arc<AtomicU8>,
}

impl PacedBody {
    fn new(inner: Body, max: u64, pace: Pace, fault: Arc<AtomicU8>) -> Self {
        Self { inner, received: 0, max, pace, timer: None, fault }
    }

    fn fail(&self, fault: u8, reason: &'static str) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.fault.store(fault, Ordering::Release);
        Poll::Ready(Some(Err(axum::Error::new(std::io::Error::other(reason)))))
    }

    /// Waits for bytes as long as the pace allows.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            let due = match self.pace.waiting(Instant::now()) {
                Ok(due) => due,
                Err(slow) => return Poll::Ready(slow),
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            std::task::ready!(timer.as_mut().poll(cx));
        }
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let count = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.received += count;
                self.pace.received(Instant::now(), count);
                if self.received > self.max {
                    return self.fail(TOO_LARGE, "the body is too large");
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => match self.poll_pace(cx) {
                Poll::Ready(TooSlow) => self.fail(TOO_SLOW, "the body comes too slowly"),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(Some(Err(error))) => {
                self.fault.store(BROKEN, Ordering::Release);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use http_body_util::BodyExt;

    async fn read(body: Body, max: u64) -> (Result<usize, axum::Error>, u8) {
        read_at(pace_of_body(Duration::from_secs(5), Duration::from_secs(300)), body, max).await
    }

    async fn read_at(pace: Pace, body: Body, max: u64) -> (Result<usize, axum::Error>, u8) {
        let fault = Arc::new(AtomicU8::new(NONE));
        let paced = PacedBody::new(body, max, pace, Arc::clone(&fault));
        let read = Body::new(paced).collect().await.map(|all| all.to_bytes().len());
        (read, fault.load(Ordering::Acquire))
    }

    fn slow_body(chunk: usize, every: Duration, count: usize) -> Body {
        let stream = futures::stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(every).await;
            Ok::<_, std::io::Error>(vec![0_u8; chunk])
        });
        Body::from_stream(stream)
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_at_a_steady_rate_pass_and_slow_ones_fail() {
        let second = Duration::from_secs(1);
        let (steady, _) = read(slow_body(20 * 1024, second, 60), u64::MAX).await;
        assert_eq!(steady.unwrap(), 60 * 20 * 1024);
        let started = Instant::now();
        let (slow, fault) = read(slow_body(1, second, 600), u64::MAX).await;
        assert!(slow.is_err() && fault == TOO_SLOW);
        assert!(started.elapsed() <= Duration::from_secs(6));
        // What came at once gives no credit for a rest.
        let started = Instant::now();
        let at_once = futures::stream::iter([Ok::<_, std::io::Error>(vec![0_u8; 32 << 20])]);
        let (rested, fault) =
            read(Body::from_stream(at_once.chain(futures::stream::pending())), u64::MAX).await;
        assert!(rested.is_err() && fault == TOO_SLOW);
        assert!(started.elapsed() <= Duration::from_secs(10));
        let (endless, fault) = read(slow_body(20 * 1024, second, 1000), u64::MAX).await;
        assert!(endless.is_err() && fault == TOO_SLOW, "the total time is limited");
    }

    #[tokio::test(start_paused = true)]
    async fn line_streams_may_be_slow_but_not_idle() {
        let second = Duration::from_secs(1);
        let idle = || pace_of_lines(Duration::from_secs(60));
        let (slow, _) = read_at(idle(), slow_body(1, 50 * second, 20), u64::MAX).await;
        assert_eq!(slow.unwrap(), 20);
        let (silent, fault) = read_at(idle(), slow_body(1, 61 * second, 2), u64::MAX).await;
        assert!(silent.is_err() && fault == TOO_SLOW);
    }

    #[tokio::test]
    async fn the_size_limit_is_exact() {
        assert_eq!(read(Body::from(vec![0; 100]), 100).await.0.unwrap(), 100);
        let (read, fault) = read(Body::from(vec![0; 101]), 100).await;
        assert!(read.is_err() && fault == TOO_LARGE);
    }
}
