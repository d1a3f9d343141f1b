//! Server-sent events that pass through the gateway.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::{Body as HttpBody, Frame};

/// The last event of a stream that ends because the gateway shuts down, in the services' own form. `EventSource`
/// reconnects by itself.
const RECONNECT_EVENT: &[u8] =
    b"event: reconnect\nretry: 1000\ndata: {\"reason\":\"draining\",\"retry_milliseconds\":1000}\n\n";

pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let is = |value: &http::HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
    headers.get(CONTENT_TYPE).is_some_and(is)
}

/// A body of server-sent events, passed through unbuffered. When the gateway begins to drain, the stream ends after the
/// current event with a `reconnect` event, so that it neither delays the shutdown nor stops within an event.
pub(crate) struct EventStream<D> {
    inner: Body,
    draining: Pin<Box<D>>,
    /// The last two bytes; an event ends with two newlines.
    tail: [u8; 2],
    state: State,
}

#[derive(PartialEq)]
enum State {
    Passing,
    Draining,
    Ended,
}

impl<D: Future<Output = ()> + Send + 'static> EventStream<D> {
    pub(crate) fn wrap(inner: Body, draining: D) -> Body {
        let draining = Box::pin(draining);
        Body::new(Self { inner, draining, tail: *b"\n\n", state: State::Passing })
    }
}

impl<D: Future<Output = ()>> HttpBody for EventStream<D> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.state == State::Ended {
            return Poll::Ready(None);
        }
        if self.state == State::Passing && self.draining.as_mut().poll(cx).is_ready() {
            self.state = State::Draining;
        }
        if self.state == State::Draining && self.tail == *b"\n\n" {
            self.state = State::Ended;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(RECONNECT_EVENT)))));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match data.as_ref() {
                [.., before, last] => self.tail = [*before, *last],
                [last] => self.tail = [self.tail[1], *last],
                [] => {}
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{Stream, StreamExt};
    use http_body_util::BodyExt;
    use tokio::sync::{mpsc, oneshot};

    fn body_of(chunks: impl Stream<Item = &'static str> + Send + 'static) -> Body {
        Body::from_stream(chunks.map(Ok::<_, std::io::Error>))
    }

    #[tokio::test]
    async fn a_draining_stream_ends_between_events_with_a_reconnect_event() {
        #[expect(clippy::disallowed_methods, reason = "the test sends a handful of messages")]
        let (chunks, receiver) = mpsc::unbounded_channel();
        let (drain, draining) = oneshot::channel::<()>();
        let inner = body_of(futures::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        }));
        let mut body = EventStream::wrap(inner, async { drop(draining.await) }).into_data_stream();
        chunks.send("id: 1\ndata: a").unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "id: 1\ndata: a");
        drain.send(()).unwrap();
        chunks.send("b\n").unwrap();
        chunks.send("\n").unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "b\n");
        assert_eq!(body.next().await.unwrap().unwrap(), "\n");
        assert_eq!(body.next().await.unwrap().unwrap(), RECONNECT_EVENT);
        assert!(body.next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_passes_unchanged_without_draining() {
        let inner = body_of(futures::stream::iter(["data: 1\n\n", "data: 2\n\n"]));
        let all = EventStream::wrap(inner, std::future::pending()).collect().await.unwrap().to_bytes();
        assert_eq!(all, "data: 1\n\ndata: 2\n\n");
    }
}
