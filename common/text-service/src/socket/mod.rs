//! The WebSocket `/stream`.

mod codec;
mod connection;
mod delivery;
mod frame_check;
mod generations;
mod origin;
mod requests;
mod subprotocol;
mod writer;

pub(crate) use codec::Format;
pub(crate) use connection::{Connection, serve};
pub(crate) use frame_check::checked as checked_frames;
pub(crate) use origin::check as check_origin;
pub(crate) use subprotocol::OfferedProtocols;
