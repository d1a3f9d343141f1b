//! Servers for tests: on a free port of the loopback, gone with the test.
#![expect(dead_code, reason = "each test binary uses its part")]

pub(crate) mod gateway;
pub(crate) mod hub;
pub(crate) mod talk;

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, Bytes},
};
use futures::StreamExt;

/// Serves until the runtime ends.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A body that breaks off after its bytes: the connection is cut in the middle of a promised length.
pub(crate) fn cut_body(bytes: Vec<u8>) -> Body {
    let pieces: Vec<std::io::Result<Bytes>> =
        bytes.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let cut = futures::stream::once(async {
        // So that the bytes before reach the other side.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    });
    Body::from_stream(futures::stream::iter(pieces).chain(cut))
}

/// First byte of `Range: bytes=N-`.
pub(crate) fn range_start(headers: &axum::http::HeaderMap) -> Option<usize> {
    headers.get("range")?.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Bytes that differ everywhere.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        })
        .collect()
}
