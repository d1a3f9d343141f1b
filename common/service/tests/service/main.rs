//! The skeleton as clients see it: a real server on a free port, a fake engine behind it.

#![expect(clippy::unwrap_used, reason = "a test may end where its ground is missing")]

mod documents;
mod downloads;
mod drains;
mod edges;
mod events;
mod exchanges;
mod formats;
mod jobs;
mod loading;
mod logs;
mod metrics;
mod owners;
mod submissions;
mod support;
