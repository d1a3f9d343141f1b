//! Where a service finds its checkpoint, and how a change of its files is noticed.

mod hub;
mod search;
#[cfg(test)]
mod tests;
mod version;

pub use search::{CheckpointFormat, CheckpointLocation, CheckpointSearch};
pub use version::CheckpointVersion;
