//! Tests of a text service over HTTP and WebSocket: a real server on a free port, with a fake decoder.

#![expect(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod chats;
mod completions;
mod connections;
mod constraints;
mod documents;
mod drains;
mod edges;
mod exchange;
mod history;
mod limits;
mod lines;
mod schemas;
mod sockets;
mod status;
mod support;
