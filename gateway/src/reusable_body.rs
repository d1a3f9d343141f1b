//! Request bodies that can be sent to another service as long as nothing of them has been read.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes};
use futures::Stream;
use http_body::Body as HttpBody;

/// A request body shared by the attempts of a request. A request may be sent again only while its body is untouched.
#[derive(Clone)]
pub(crate) struct ReusableBody {
    shared: Arc<Mutex<Shared>>,
    empty: bool,
}

struct Shared {
    stream: BodyDataStream,
    started: bool,
}

impl ReusableBody {
    pub(crate) fn new(body: Body) -> Self {
        let empty = body.is_end_stream();
        let shared = Shared { stream: body.into_data_stream(), started: false };
        Self { shared: Arc::new(Mutex::new(shared)), empty }
    }

    /// The body for one attempt.
    pub(crate) fn attempt(&self) -> Body {
        if self.empty { Body::empty() } else { Body::from_stream(self.clone()) }
    }

    /// Whether nothing of the body has been read.
    pub(crate) fn untouched(&self) -> bool {
        self.empty || !self.shared.lock().unwrap_or_else(PoisonError::into_inner).started
    }
}

impl Stream for ReusableBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.started = true;
        Pin::new(&mut shared.stream).poll_next(cx)
    }
}
