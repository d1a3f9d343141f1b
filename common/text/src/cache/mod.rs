//! Block manager of the KV cache, with prefix sharing.

mod blocks;
mod prefix;
#[cfg(test)]
mod simulation;

pub(crate) use blocks::BlockManager;
pub(crate) use prefix::{BlockHash, block_hash, root_hash};
