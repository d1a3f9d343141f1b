//! Hashes of the content of full blocks.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use videosdgx_decoder_api::{BLOCK_TOKENS, ImageInput};

/// Hash of a full block's content and of everything before it: the first half of a SHA-256. A weaker hash would allow forged
/// collisions that give one caller the cache of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockHash([u8; 16]);

/// The hash before the first block. Sequences with different salts share no blocks.
pub(crate) fn root_hash(salt: &str) -> BlockHash {
    let mut hasher = Sha256::new();
    hasher.update(b"videosdgx kv 1");
    hasher.update(salt.as_bytes());
    first_half(hasher)
}

/// The hash of the block after `before` with `tokens` (exactly [`BLOCK_TOKENS`]) from position `start` of a sequence with
/// `images`.
pub(crate) fn block_hash(
    before: BlockHash,
    tokens: &[u32],
    start: usize,
    images: &[Arc<ImageInput>],
) -> BlockHash {
    debug_assert_eq!(tokens.len(), BLOCK_TOKENS);
    let mut hasher = Sha256::new();
    hasher.update(before.0);
    for token in tokens {
        hasher.update(token.to_le_bytes());
    }
    for image in images {
        let overlaps = image.position < start + tokens.len() && start < image.position + image.tokens;
        if overlaps {
            hasher.update(image.digest);
            hasher.update((image.position as u64).to_le_bytes());
            for side in image.grid {
                hasher.update((side as u64).to_le_bytes());
            }
        }
    }
    first_half(hasher)
}

fn first_half(hasher: Sha256) -> BlockHash {
    let whole = hasher.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    BlockHash(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(digest: u8, position: usize) -> Arc<ImageInput> {
        let grid = [1, 4, 4];
        Arc::new(ImageInput { position, tokens: 4, grid, patches: Vec::new(), digest: [digest; 32] })
    }

    #[test]
    fn everything_that_changes_the_content_changes_the_hash() {
        let tokens = [7; BLOCK_TOKENS];
        let base = block_hash(root_hash(""), &tokens, 0, &[picture(1, 2)]);
        let mut others = vec![
            block_hash(root_hash("a"), &tokens, 0, &[picture(1, 2)]),
            block_hash(base, &tokens, 16, &[picture(1, 2)]),
            block_hash(root_hash(""), &tokens, 0, &[picture(2, 2)]),
            block_hash(root_hash(""), &tokens, 0, &[picture(1, 3)]),
            block_hash(root_hash(""), &tokens, 0, &[]),
        ];
        let mut changed = tokens;
        changed[15] = 8;
        others.push(block_hash(root_hash(""), &changed, 0, &[picture(1, 2)]));
        others.push(base);
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), 7);
    }

    #[test]
    fn an_image_outside_the_block_does_not_change_its_hash() {
        let tokens = [7; BLOCK_TOKENS];
        let root = root_hash("");
        assert_eq!(block_hash(root, &tokens, 0, &[picture(1, 16)]), block_hash(root, &tokens, 0, &[]));
    }
}
