//! What is left of a request's body when its response is ready: refused requests are answered before their body is read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::header::{CONNECTION, EXPECT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// A longer rest is not waited for: the response says that the connection is closed.
const MAX_DISCARDED: u64 = 64 * 1024;
/// How long a rest is read and discarded. Closing a connection with unread bytes resets it, and the client may lose the response.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// The body of one request, as the connection sees it.
#[derive(Clone, Default)]
pub(crate) struct UnreadBody {
    /// Bytes that have not been read; `u64::MAX` when that is unknown.
    left: Arc<AtomicU64>,
}

impl UnreadBody {
    /// Observes the body of `request`. A rest that the handlers leave is discarded.
    pub(crate) fn observe(request: Request<Incoming>) -> (Request<Body>, Self) {
        let unread = Self::default();
        if request.body().is_end_stream() {
            return (request.map(Body::new), unread);
        }
        unread.left.store(left(request.body()), Ordering::Relaxed);
        let waits_to_be_asked = request.headers().contains_key(EXPECT);
        let observed = unread.clone();
        let request = request
            .map(|body| Body::new(ObservedBody { body: Some(body), waits_to_be_asked, unread: observed }));
        (request, unread)
    }

    /// Announces in an error response that the connection is closed, unless the rest of the body is short enough to be discarded.
    pub(crate) fn announce_close(&self, status: StatusCode, headers: &mut HeaderMap) {
        let left = self.left.load(Ordering::Relaxed);
        let is_error = status.is_client_error() || status.is_server_error();
        if is_error && (left > MAX_DISCARDED || left > 0 && status == StatusCode::REQUEST_TIMEOUT) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

fn left(body: &Incoming) -> u64 {
    if body.is_end_stream() { 0 } else { body.size_hint().exact().unwrap_or(u64::MAX) }
}

struct ObservedBody {
    body: Option<Incoming>,
    /// With `Expect: 100-continue`, reading the first bytes asks the client to send them.
    waits_to_be_asked: bool,
    unread: UnreadBody,
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits_to_be_asked = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                let left = left(body);
                self.unread.left.store(left, Ordering::Relaxed);
            }
            Poll::Ready(None | Some(Err(_))) => {
                self.unread.left.store(0, Ordering::Relaxed);
                self.body = None;
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for ObservedBody {
    fn drop(&mut self) {
        let Some(mut rest) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if self.waits_to_be_asked {
            self.unread.left.store(u64::MAX, Ordering::Relaxed);
            return;
        }
        // Without a runtime the process is ending.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let discard = async { while let Some(Ok(_)) = rest.frame().await {} };
            let _ = tokio::time::timeout(DISCARD_TIME, discard).await;
        });
    }
}
