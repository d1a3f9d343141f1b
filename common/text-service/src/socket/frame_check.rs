//! Refuses invalid frames of a client by their header, before their payload is received.

use std::{fmt, io};

use actix_web::{
    FromRequest as _, HttpRequest,
    dev::Payload,
    error::PayloadError,
    web::{self, Bytes},
};
use futures::StreamExt as _;
use videosdgx_connection::FrameTracker;
use videosdgx_shell::{Failure, HandlerResult};

/// Why a frame is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameFault {
    /// It announces more bytes than a message may have.
    TooLarge,
    /// It uses a reserved bit, without an extension that defines it (RFC 6455 section 5.2).
    ReservedBit,
}

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the message is too large",
            Self::ReservedBit => "a frame uses a reserved bit",
        })
    }
}

impl std::error::Error for FrameFault {}

impl FrameFault {
    /// The fault that an error of the connection carries.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        match inner.downcast_ref() {
            Some(PayloadError::Io(error)) => Self::of(error),
            _ => inner.downcast_ref().copied(),
        }
    }
}

/// The bytes of a WebSocket connection up to the first frame that is refused; its header ends the stream with a [`FrameFault`].
/// The frame parser itself would receive the whole frame first.
pub(crate) async fn checked(
    request: &HttpRequest,
    payload: web::Payload,
    max_size: usize,
) -> HandlerResult<web::Payload> {
    let state = Some((payload, FrameTracker::default()));
    let checked = futures::stream::unfold(state, move |state| async move {
        let (mut payload, mut tracker) = state?;
        match payload.next().await? {
            Err(error) => Some((Err(error), None)),
            Ok(bytes) => match check(&mut tracker, &bytes, max_size) {
                Ok(()) => Some((Ok(bytes), Some((payload, tracker)))),
                Err(fault) => Some((Err(PayloadError::Io(io::Error::other(fault))), None)),
            },
        }
    });
    let mut payload = Payload::Stream { payload: checked.boxed_local() };
    web::Payload::from_request(request, &mut payload).await.map_err(Failure::internal)
}

fn check(tracker: &mut FrameTracker, bytes: &Bytes, max_size: usize) -> Result<(), FrameFault> {
    tracker.try_advance(bytes, |header| {
        if header.reserved {
            Err(FrameFault::ReservedBit)
        } else if header.length > max_size as u64 {
            Err(FrameFault::TooLarge)
        } else {
            Ok(())
        }
    })
}
