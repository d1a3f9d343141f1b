//! The streaming protocol of `/stream` and `/stream/generate`, independent of the transport: from a `generate` message to a
//! task, from output to events, and streams that survive a lost connection.

pub(crate) mod event_log;
pub(crate) mod events;
pub(crate) mod lines;
pub(crate) mod request;
pub(crate) mod resumable;
