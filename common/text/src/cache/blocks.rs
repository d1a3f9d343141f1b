//! The blocks: free, held, shared, or kept for their content.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::BlockHash;
use videosdgx_decoder_api::BlockId;

/// Hands out blocks of the KV cache. A block is free; or held by one or more sequences (its count); or cached: held by
/// nobody and kept, under the hash of its content, until its place is needed, least lately used first.
///
/// Only full, computed blocks get a hash, only blocks with a hash are shared, and nobody writes into a full block: so a shared
/// block is never written.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockManager {
    blocks: Vec<Block>,
    free: BTreeSet<BlockId>,
    by_hash: HashMap<BlockHash, BlockId>,
    /// Cached blocks by when they were last held.
    cached: BTreeMap<u64, BlockId>,
    clock: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    holders: u32,
    hash: Option<BlockHash>,
    /// Its key in `cached`, while it is there.
    released: u64,
}

impl BlockManager {
    /// Without any block.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Blocks there are.
    pub(crate) fn capacity(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that sequences hold.
    pub(crate) fn used(&self) -> usize {
        self.blocks.len() - self.available()
    }

    /// Blocks nobody holds, with content that may be found again.
    pub(crate) fn cached(&self) -> usize {
        self.cached.len()
    }

    /// Blocks that could be taken now.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.cached.len()
    }

    /// The fewest blocks it can be shrunk to now, when cached ones are dropped: held blocks stay where they are.
    pub(crate) fn least_capacity(&self) -> usize {
        self.blocks.iter().rposition(|block| block.holders > 0).map_or(0, |last| last + 1)
    }

    /// Makes it `capacity` large, or as small as held blocks allow; gives what it became. Content of dropped blocks is forgotten.
    pub(crate) fn resize(&mut self, capacity: usize) -> usize {
        let capacity = capacity.max(self.least_capacity());
        while self.blocks.len() > capacity {
            let last = (self.blocks.len() - 1) as BlockId;
            self.forget(last);
            self.free.remove(&last);
            self.blocks.pop();
        }
        while self.blocks.len() < capacity {
            self.free.insert(self.blocks.len() as BlockId);
            self.blocks.push(Block::default());
        }
        capacity
    }

    /// Forgets all content that nobody holds.
    pub(crate) fn drop_cached(&mut self) {
        for (_, block) in std::mem::take(&mut self.cached) {
            self.unname(block);
            self.free.insert(block);
        }
    }

    /// Takes a block for new content: a free one (the lowest number, so that the pool can shrink), else the cached one that was
    /// held longest ago.
    pub(crate) fn take(&mut self) -> Option<BlockId> {
        let block = match self.free.pop_first() {
            Some(block) => block,
            None => {
                let (_, block) = self.cached.pop_first()?;
                self.unname(block);
                block
            }
        };
        self.blocks[block as usize].holders = 1;
        Some(block)
    }

    /// Whether a block with this content is there.
    pub(crate) fn contains(&self, hash: BlockHash) -> bool {
        self.by_hash.contains_key(&hash)
    }

    /// Whether a block with this content is there and nobody holds it: sharing it takes from [`BlockManager::available`].
    pub(crate) fn is_cached(&self, hash: BlockHash) -> bool {
        self.by_hash.get(&hash).is_some_and(|block| self.blocks[*block as usize].holders == 0)
    }

    /// Holds the block with this content, together with whoever holds it already.
    pub(crate) fn share(&mut self, hash: BlockHash) -> Option<BlockId> {
        let block = *self.by_hash.get(&hash)?;
        let entry = &mut self.blocks[block as usize];
        if entry.holders == 0 {
            self.cached.remove(&entry.released);
        }
        entry.holders += 1;
        Some(block)
    }

    /// Names the content of a full block that was computed. When the same content is there already, in another block, this one
    /// stays without a name.
    pub(crate) fn publish(&mut self, block: BlockId, hash: BlockHash) {
        let entry = &mut self.blocks[block as usize];
        if entry.holders > 0 && entry.hash.is_none() && !self.by_hash.contains_key(&hash) {
            entry.hash = Some(hash);
            self.by_hash.insert(hash, block);
        }
    }

    /// Lets go of a block. Release the last block of a sequence first: then beginnings, which others may want, stay longest.
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

    /// How many hold a block.
    #[cfg(test)]
    pub(crate) fn holders(&self, block: BlockId) -> u32 {
        self.blocks[block as usize].holders
    }

    /// Checks what must always be true; `held` are the blocks of each sequence.
    #[cfg(test)]
    pub(crate) fn check(&self, held: &[&[BlockId]]) {
        let mut counts = vec![0_u32; self.blocks.len()];
        for block in held.iter().flat_map(|blocks| blocks.iter()) {
            counts[*block as usize] += 1;
        }
        for (id, block) in self.blocks.iter().enumerate() {
            let id = id as BlockId;
            assert_eq!(block.holders, counts[id as usize], "holders of block {id}");
            assert!(block.holders <= 1 || block.hash.is_some(), "block {id} is shared without a name");
            let free = self.free.contains(&id);
            let cached = self.cached.get(&block.released) == Some(&id);
            assert_eq!(
                u8::from(free) + u8::from(cached) + u8::from(block.holders > 0),
                1,
                "block {id} is in one place"
            );
            assert!(!free || block.hash.is_none(), "free block {id} has a name");
            assert!(!cached || block.hash.is_some(), "cached block {id} has no name");
            if let Some(hash) = block.hash {
                assert_eq!(self.by_hash.get(&hash), Some(&id), "name of block {id}");
            }
        }
        assert_eq!(self.by_hash.len(), self.blocks.iter().filter(|block| block.hash.is_some()).count());
        assert_eq!(self.used() + self.available(), self.capacity());
    }

    /// Takes a cached block out of the cache; nothing for others.
    fn forget(&mut self, block: BlockId) {
        let entry = self.blocks[block as usize];
        if entry.holders == 0 && entry.hash.is_some() {
            self.cached.remove(&entry.released);
            self.unname(block);
            self.free.insert(block);
        }
    }

    fn unname(&mut self, block: BlockId) {
        if let Some(hash) = self.blocks[block as usize].hash.take() {
            self.by_hash.remove(&hash);
        }
    }
}
