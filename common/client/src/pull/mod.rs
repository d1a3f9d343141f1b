//! Brings published checkpoints from a Hugging Face-compatible endpoint.
//!
//! Promises: a file has its final name only when its checksum is right; a folder has its final name only when all its files
//! are there; what came before an interruption is gone on with; the token is sent to the endpoint and to nobody else,
//! whatever it redirects to; no path in a listing leads out of the folder.

mod checksum;
mod error;
mod file;
mod folder;
mod hub;
mod layout;
mod place;

pub use checksum::Digest;
pub use error::PullError;
pub use folder::{PullEvent, PullReport, pull};
pub use hub::{DEFAULT_ENDPOINT, Hub, RemoteFile};
pub use place::SafePath;
