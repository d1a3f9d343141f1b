//! A gateway on a free port in front of small services, tested over HTTP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod completions;
mod connections;
mod documents;
mod facade;
mod identity;
mod limits;
mod program;
mod proxying;
mod raw;
mod schemas;
mod service;
mod shutdown;
mod test_gateway;
mod unread_bodies;
mod upstreams;
mod websockets;
