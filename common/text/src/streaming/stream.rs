//! Results of many prompts as one stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use super::StreamResult;

/// Results as they come, of all prompts mixed, each with its prompt's number. Dropping it cancels what runs.
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
