//! The options of accepted sockets.

use std::time::Duration;

use tokio::net::TcpStream;

/// The kernel closes a connection whose client has acknowledged nothing for this long.
const STALLED_READER: Duration = Duration::from_secs(25);
/// Maximum number of unsent bytes that the kernel buffers for a client, so that a slow reader is noticed soon and costs little memory.
/// What is on its way to a client is not counted, so that it does not limit the speed of a distant one.
const UNSENT: u32 = 128 * 1024;

/// Sends small events at once, limits what the kernel buffers, and closes connections whose client is gone.
pub fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let tuned = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(STALLED_READER)))
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT))
        .and_then(|()| socket.set_keepalive(true));
    if let Err(error) = tuned {
        tracing::debug!(%error, "connection_not_tuned");
    }
}
