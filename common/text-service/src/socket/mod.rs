//! The WebSocket `/stream`.

mod buffer;
mod codec;
mod driver;
mod kept;
mod names;
mod origin;
mod outgoing;
mod subprotocol;

pub(crate) use codec::Format;
pub(crate) use driver::{Connection, drive};
pub(crate) use kept::KeptStreams;
pub(crate) use origin::check as check_origin;
pub(crate) use subprotocol::Offered;
