//! Allocation, sharing and eviction of cache blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::BlockHash;
use videosdgx_decoder_api::BlockId;

/// Allocates blocks of the KV cache. A block is free, or held by one or more sequences (reference count), or cached: held by no
/// sequence and kept under the hash of its content until it is evicted, least recently used first.
///
/// Only full, computed blocks get a hash, only blocks with a hash are shared, and full blocks are not written: so a shared block
/// is never written.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockManager {
    blocks: Vec<Block>,
    free: BTreeSet<BlockId>,
    by_hash: HashMap<BlockHash, BlockId>,
    /// Cached blocks by the time of their release.
    cached: BTreeMap<u64, BlockId>,
    clock: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    holders: u32,
    hash: Option<BlockHash>,
    /// Key in `cached` while the block is cached.
    released: u64,
}

impl BlockManager {
    /// A manager without blocks.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Number of blocks.
    pub(crate) fn capacity(&self) -> usize {
        self.blocks.len()
    }

    /// Number of blocks held by sequences.
    pub(crate) fn used(&self) -> usize {
        self.blocks.len() - self.available()
    }

    /// Number of cached blocks.
    pub(crate) fn cached(&self) -> usize {
        self.cached.len()
    }

    /// Number of blocks that can be allocated: free and cached ones.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.cached.len()
    }

    /// Smallest possible capacity: held blocks cannot be moved.
    pub(crate) fn min_capacity(&self) -> usize {
        self.blocks.iter().rposition(|block| block.holders > 0).map_or(0, |last| last + 1)
    }

    /// Resizes to `capacity` blocks, or as near as held blocks allow; returns the new capacity. The content of removed blocks is lost.
    pub(crate) fn resize(&mut self, capacity: usize) -> usize {
        let capacity = capacity.max(self.min_capacity());
        while self.blocks.len() > capacity {
            let last = (self.blocks.len() - 1) as BlockId;
            self.evict(last);
            self.free.remove(&last);
            self.blocks.pop();
        }
        while self.blocks.len() < capacity {
            self.free.insert(self.blocks.len() as BlockId);
            self.blocks.push(Block::default());
        }
        capacity
    }

    /// Evicts all cached blocks.
    pub(crate) fn drop_cached(&mut self) {
        for (_, block) in std::mem::take(&mut self.cached) {
            self.remove_hash(block);
            self.free.insert(block);
        }
    }

    /// Allocates a block: a free one (the lowest, so that the cache can shrink), otherwise the least recently used cached one.
    pub(crate) fn take(&mut self) -> Option<BlockId> {
        let block = match self.free.pop_first() {
            Some(block) => block,
            None => {
                let (_, block) = self.cached.pop_first()?;
                self.remove_hash(block);
                block
            }
        };
        self.blocks[block as usize].holders = 1;
        Some(block)
    }

    /// Whether a block has this content.
    pub(crate) fn contains(&self, hash: BlockHash) -> bool {
        self.by_hash.contains_key(&hash)
    }

    /// Whether a cached block has this content. Sharing it reduces [`BlockManager::available`].
    pub(crate) fn is_cached(&self, hash: BlockHash) -> bool {
        self.by_hash.get(&hash).is_some_and(|block| self.blocks[*block as usize].holders == 0)
    }

    /// Adds a holder to the block with this content.
    pub(crate) fn share(&mut self, hash: BlockHash) -> Option<BlockId> {
        let block = *self.by_hash.get(&hash)?;
        let entry = &mut self.blocks[block as usize];
        if entry.holders == 0 {
            self.cached.remove(&entry.released);
        }
        entry.holders += 1;
        Some(block)
    }

    /// Registers the content of a full, computed block under its hash. Has no effect when another block has the same content.
    pub(crate) fn publish(&mut self, block: BlockId, hash: BlockHash) {
        let entry = &mut self.blocks[block as usize];
        if entry.holders > 0 && entry.hash.is_none() && !self.by_hash.contains_key(&hash) {
            entry.hash = Some(hash);
            self.by_hash.insert(hash, block);
        }
    }

    /// Removes a holder from a block. Release a sequence's last block first, so that its prefix, which others may share, is evicted
    /// last.
    pub(crate) fn release(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block as usize];
        debug_assert!(entry.holders > 0, "block {block} released too often");
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders > 0 {
            return;
        }
        if entry.hash.is_some() {
            self.clock += 1;
            entry.released = self.clock;
            self.cached.insert(self.clock, block);
        } else {
            self.free.insert(block);
        }
    }

    /// Number of holders of a block.
    #[cfg(test)]
    pub(crate) fn holders(&self, block: BlockId) -> u32 {
        self.blocks[block as usize].holders
    }

    /// Asserts the invariants; `held` has the blocks of each sequence.
    #[cfg(test)]
    pub(crate) fn check(&self, held: &[&[BlockId]]) {
        let mut counts = vec![0_u32; self.blocks.len()];
        for block in held.iter().flat_map(|blocks| blocks.iter()) {
            counts[*block as usize] += 1;
        }
        for (id, block) in self.blocks.iter().enumerate() {
            let id = id as BlockId;
            assert_eq!(block.holders, counts[id as usize], "holders of block {id}");
            assert!(block.holders <= 1 || block.hash.is_some(), "block {id} is shared without a hash");
            let free = self.free.contains(&id);
            let cached = self.cached.get(&block.released) == Some(&id);
            assert_eq!(
                u8::from(free) + u8::from(cached) + u8::from(block.holders > 0),
                1,
                "block {id} is free, cached or held"
            );
            assert!(!free || block.hash.is_none(), "free block {id} has a hash");
            assert!(!cached || block.hash.is_some(), "cached block {id} has no hash");
            if let Some(hash) = block.hash {
                assert_eq!(self.by_hash.get(&hash), Some(&id), "hash of block {id}");
            }
        }
        assert_eq!(self.by_hash.len(), self.blocks.iter().filter(|block| block.hash.is_some()).count());
        assert_eq!(self.used() + self.available(), self.capacity());
    }

    /// Frees a block if it is cached.
    fn evict(&mut self, block: BlockId) {
        let entry = self.blocks[block as usize];
        if entry.holders == 0 && entry.hash.is_some() {
            self.cached.remove(&entry.released);
            self.remove_hash(block);
            self.free.insert(block);
        }
    }

    fn remove_hash(&mut self, block: BlockId) {
        if let Some(hash) = self.blocks[block as usize].hash.take() {
            self.by_hash.remove(&hash);
        }
    }
}
