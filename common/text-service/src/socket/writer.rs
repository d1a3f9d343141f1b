//! Writes queued messages to a WebSocket.

use actix_ws::{CloseCode, CloseReason, ProtocolError, Session};
use tokio::sync::mpsc;

use super::{Format, frame_check::FrameFault};

/// A message or control frame to send.
pub(super) enum Outgoing {
    Message(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(CloseCode, &'static str),
}

/// Closes a connection that exceeds the limit, so that the client tries again later.
pub(super) async fn reject(session: Session) {
    let reason = close_reason(CloseCode::Again, "too many connections; try again soon");
    let _ = session.close(Some(reason)).await;
}

fn close_reason(code: CloseCode, description: &str) -> CloseReason {
    CloseReason { code, description: Some(description.to_owned()) }
}

/// Sends the messages of `queue` until it or the connection is closed.
pub(super) async fn write(mut session: Session, mut queue: mpsc::Receiver<Outgoing>, format: Format) {
    while let Some(outgoing) = queue.recv().await {
        let sent = match outgoing {
            Outgoing::Message(bytes) => match format {
                // Serialized by serde_json, so it is valid UTF-8.
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

/// The close code for a client's protocol error; None for a connection that broke.
pub(super) fn close_code(error: &ProtocolError) -> Option<(CloseCode, &'static str)> {
    Some(match error {
        ProtocolError::Io(error) if FrameFault::of(error) == Some(FrameFault::TooLarge) => {
            (CloseCode::Size, "the message is too large")
        }
        ProtocolError::Io(error) if FrameFault::of(error) == Some(FrameFault::ReservedBit) => {
            (CloseCode::Protocol, "a frame uses a reserved bit")
        }
        ProtocolError::Overflow => (CloseCode::Size, "the message is too large"),
        ProtocolError::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            (CloseCode::Invalid, "text is not valid UTF-8")
        }
        ProtocolError::Io(error) if error.to_string().contains("continuation size") => {
            (CloseCode::Size, "the message is too large")
        }
        ProtocolError::Io(_) => return None,
        _ => (CloseCode::Protocol, "invalid WebSocket frame"),
    })
}
