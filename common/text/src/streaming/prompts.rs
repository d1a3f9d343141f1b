//! Sources of prompts.

use std::fmt;
use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};

use super::StreamInput;

/// One prompt, several prompts, or a lazy source.
pub enum Prompts {
    /// A single prompt.
    One(StreamInput),
    /// A list of prompts.
    Many(Vec<StreamInput>),
    /// Prompts that are produced on demand, when a slot is free.
    Lazy(Pin<Box<dyn Stream<Item = StreamInput> + Send>>),
}

impl Prompts {
    /// A lazy source from a stream.
    pub fn lazy<P: Into<StreamInput> + 'static>(prompts: impl Stream<Item = P> + Send + 'static) -> Self {
        Self::Lazy(Box::pin(prompts.map(Into::into)))
    }

    /// A lazy source from an iterator.
    pub fn lazy_iter<I>(prompts: I) -> Self
    where
        I: IntoIterator<Item: Into<StreamInput> + 'static, IntoIter: Send + 'static>,
    {
        Self::lazy(stream::iter(prompts))
    }

    pub(super) fn into_stream(self) -> Pin<Box<dyn Stream<Item = StreamInput> + Send>> {
        match self {
            Self::One(prompt) => Box::pin(stream::iter([prompt])),
            Self::Many(prompts) => Box::pin(stream::iter(prompts)),
            Self::Lazy(prompts) => prompts,
        }
    }
}

impl From<&str> for Prompts {
    fn from(prompt: &str) -> Self {
        Self::One(prompt.into())
    }
}

impl From<String> for Prompts {
    fn from(prompt: String) -> Self {
        Self::One(prompt.into())
    }
}

impl From<StreamInput> for Prompts {
    fn from(prompt: StreamInput) -> Self {
        Self::One(prompt)
    }
}

impl<P: Into<StreamInput>> From<Vec<P>> for Prompts {
    fn from(prompts: Vec<P>) -> Self {
        Self::Many(prompts.into_iter().map(Into::into).collect())
    }
}

impl fmt::Debug for Prompts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(_) => f.write_str("One"),
            Self::Many(prompts) => f.debug_tuple("Many").field(&prompts.len()).finish(),
            Self::Lazy(_) => f.write_str("Lazy"),
        }
    }
}
