//! Downloads published checkpoints from a Hugging Face-compatible endpoint.
//!
//! Guarantees: a file gets its final name only after its checksum was verified; a folder gets its final name only when it is
//! complete; an interrupted download is resumed; the token is sent to the endpoint only, never to a host that it redirects
//! to; no path in a listing leads out of the folder.

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
