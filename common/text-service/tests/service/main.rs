//! A text service as clients see it: a real server on a free port, a decoder of a few lines behind it.

#![expect(clippy::unwrap_used, reason = "a test may end where its ground is missing")]

mod chats;
mod completions;
mod documents;
mod drains;
mod edges;
mod limits;
mod lines;
mod sockets;
mod status;
mod support;
