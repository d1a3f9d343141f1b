//! The stream of results over many prompts.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use super::StreamResult;

/// Stream of the results of all prompts, interleaved, each with its prompt's index. Dropping it cancels running requests.
pub struct GenerateStream(Pin<Box<dyn Stream<Item = StreamResult> + Send>>);

impl GenerateStream {
    pub(super) fn new(results: impl Stream<Item = StreamResult> + Send + 'static) -> Self {
        Self(Box::pin(results))
    }
}

impl Stream for GenerateStream {
    type Item = StreamResult;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<StreamResult>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for GenerateStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GenerateStream")
    }
}
