//! What a connection is sent, on its way to the socket.

use actix_ws::{CloseCode, CloseReason, ProtocolError, Session};
use tokio::sync::mpsc;

use super::Format;

/// A message, or what the protocol itself says.
pub(super) enum Outgoing {
    Message(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(CloseCode, &'static str),
}

/// Tells a client to try later.
pub(super) async fn turn_away(session: Session) {
    let reason = close_reason(CloseCode::Again, "too many connections; try again soon");
    let _ = session.close(Some(reason)).await;
}

fn close_reason(code: CloseCode, description: &str) -> CloseReason {
    CloseReason { code, description: Some(description.to_owned()) }
}

/// Hands messages to the socket, as fast as it takes them.
pub(super) async fn write(mut session: Session, mut queue: mpsc::Receiver<Outgoing>, format: Format) {
    while let Some(outgoing) = queue.recv().await {
        let sent = match outgoing {
            Outgoing::Message(bytes) => match format {
                // Written by serde, so it is text.
                Format::Json => session.text(String::from_utf8(bytes).unwrap_or_default()).await,
                Format::MessagePack => session.binary(bytes).await,
            },
            Outgoing::Ping => session.ping(b"").await,
            Outgoing::Pong(bytes) => session.pong(&bytes).await,
            Outgoing::Close(code, why) => {
                let _ = session.close(Some(close_reason(code, why))).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = session.close(None).await;
}

/// The close frame for what the client's frames did wrong; none for a connection that broke.
pub(super) fn reason_of(error: &ProtocolError) -> Option<(CloseCode, &'static str)> {
    Some(match error {
        ProtocolError::Overflow => (CloseCode::Size, "the message is too large"),
        ProtocolError::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            (CloseCode::Invalid, "text that is no UTF-8")
        }
        ProtocolError::Io(error) if error.to_string().contains("continuation size") => {
            (CloseCode::Size, "the message is too large")
        }
        ProtocolError::Io(_) => return None,
        _ => (CloseCode::Protocol, "frames that break the protocol"),
    })
}
