use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes};
use futures::Stream;
use http_body::Body as HttpBody;

/// A request body that can be offered to another service as long as nobody has begun to read it: a request may be
/// tried again only when nothing of it reached a service.
#[derive(Clone)]
pub(crate) struct ReusableBody {
    shared: Arc<Mutex<Shared>>,
    empty: bool,
}

struct Shared {
    stream: BodyDataStream,
    begun: bool,
}

impl ReusableBody {
    pub(crate) fn new(body: Body) -> Self {
        let empty = body.is_end_stream();
        let shared = Shared { stream: body.into_data_stream(), begun: false };
        Self { shared: Arc::new(Mutex::new(shared)), empty }
    }

    /// For one attempt; `None` when there is no body.
    pub(crate) fn attempt(&self) -> Option<reqwest::Body> {
        (!self.empty).then(|| reqwest::Body::wrap_stream(self.clone()))
    }

    pub(crate) fn untouched(&self) -> bool {
        self.empty || !self.shared.lock().unwrap_or_else(PoisonError::into_inner).begun
    }
}

impl Stream for ReusableBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.begun = true;
        Pin::new(&mut shared.stream).poll_next(cx)
    }
}
