//! Randomised test of the block manager: sequences arrive, share, grow, end, and the cache is resized.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{BlockHash, BlockManager, block_hash, root_hash};
use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId};

/// A sequence of full blocks of one token each, drawn from few tokens so that prefixes are often equal.
#[derive(Default)]
struct Sequence {
    hashes: Vec<BlockHash>,
    blocks: Vec<BlockId>,
    /// Full blocks with a hash, then at most one that is being written.
    named: usize,
}

struct World {
    manager: BlockManager,
    sequences: Vec<Sequence>,
    /// The actual content of each block, to detect writes to shared blocks.
    content: HashMap<BlockId, BlockHash>,
}

impl World {
    fn begin(&mut self, random: &mut StdRng) {
        let mut sequence = Sequence::default();
        let mut before = root_hash("");
        for position in 0..random.random_range(1..8_usize) {
            let tokens = [random.random_range(0..2_u32); BLOCK_TOKENS];
            before = block_hash(before, &tokens, position * BLOCK_TOKENS, &[]);
            sequence.hashes.push(before);
        }
        while let Some(hash) = sequence.hashes.get(sequence.named) {
            let Some(block) = self.manager.share(*hash) else { break };
            assert_eq!(self.content.get(&block), Some(hash), "the shared block holds what its name says");
            sequence.blocks.push(block);
            sequence.named += 1;
        }
        self.sequences.push(sequence);
    }

    /// Computes the next block of a sequence: allocates it, writes it, publishes it.
    fn grow(&mut self, index: usize) {
        let sequence = &mut self.sequences[index];
        let Some(hash) = sequence.hashes.get(sequence.blocks.len()) else { return };
        let Some(block) = self.manager.take() else { return };
        assert_eq!(self.manager.holders(block), 1, "a block that is written has one holder");
        self.content.insert(block, *hash);
        sequence.blocks.push(block);
        self.manager.publish(block, *hash);
        sequence.named += 1;
    }

    fn end(&mut self, index: usize) {
        let sequence = self.sequences.swap_remove(index);
        for block in sequence.blocks.into_iter().rev() {
            self.manager.release(block);
        }
    }

    fn check(&self) {
        let held: Vec<&[BlockId]> = self.sequences.iter().map(|sequence| &*sequence.blocks).collect();
        self.manager.check(&held);
    }
}

#[test]
fn blocks_are_never_lost_nor_written_while_shared() {
    for seed in 0..256_u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world =
            World { manager: BlockManager::new(), sequences: Vec::new(), content: HashMap::new() };
        let guard = scopeguard(seed);
        world.manager.resize(random.random_range(1..40));
        for _ in 0..150 {
            let some =
                (!world.sequences.is_empty()).then(|| random.random_range(0..world.sequences.len().max(1)));
            match (random.random_range(0..20), some) {
                (0..=4, _) => world.begin(&mut random),
                (5..=13, Some(index)) => world.grow(index),
                (14..=17, Some(index)) => world.end(index),
                (18, _) => {
                    let wanted = random.random_range(0..48);
                    let least = world.manager.min_capacity();
                    assert_eq!(world.manager.resize(wanted), wanted.max(least));
                }
                (19, _) => {
                    world.manager.drop_cached();
                    assert_eq!(world.manager.cached(), 0);
                }
                _ => {}
            }
            world.check();
        }
        while !world.sequences.is_empty() {
            world.end(0);
        }
        world.check();
        assert_eq!((world.manager.used(), world.manager.min_capacity()), (0, 0));
        std::mem::forget(guard);
    }
}

/// Prints the seed when the test panics.
fn scopeguard(seed: u64) -> impl Drop {
    struct Print(u64);
    impl Drop for Print {
        fn drop(&mut self) {
            eprintln!("failing seed: {}", self.0);
        }
    }
    Print(seed)
}

#[test]
fn least_recently_used_blocks_are_evicted_first_and_suffixes_before_prefixes() {
    let mut manager = BlockManager::new();
    manager.resize(3);
    let hashes: Vec<_> =
        (0..3_u32).map(|token| block_hash(root_hash(""), &[token; BLOCK_TOKENS], 0, &[])).collect();
    let blocks: Vec<_> = hashes.iter().map(|_| manager.take().unwrap()).collect();
    for (block, hash) in blocks.iter().zip(&hashes) {
        manager.publish(*block, *hash);
    }
    for block in blocks.iter().rev() {
        manager.release(*block);
    }
    assert_eq!((manager.used(), manager.cached(), manager.available()), (0, 3, 3));
    assert_eq!(manager.take(), Some(blocks[2]));
    assert_eq!(manager.share(hashes[1]), Some(blocks[1]));
    assert_eq!(manager.take(), Some(blocks[0]));
    assert!(!manager.contains(hashes[0]) && manager.take().is_none());
}
