//! The gateway from outside: a real one on a free port before small real services.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod completions;
mod documents;
mod facade;
mod identity;
mod limits;
mod proxying;
mod raw;
mod service;
mod shutdown;
mod sockets;
mod upstreams;
mod websockets;
mod world;
