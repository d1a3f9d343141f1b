//! Adapter from our tokenizer to llguidance: a trie of the bytes of all tokens.

use std::sync::Arc;

use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::ConstraintError;
use crate::{AllowSpecial, Tokenizer};

struct Environment {
    tokenizer: Tokenizer,
    trie: TokTrie,
    canonical: bool,
}

/// Builds the environment. `end_tokens` end an output; if empty, the tokenizer's end token is used.
pub(super) fn environment(tokenizer: &Tokenizer, end_tokens: &[u32]) -> Result<TokEnv, ConstraintError> {
    let size = tokenizer.vocab_size();
    let mut ends: Vec<TokenId> = end_tokens.iter().copied().filter(|id| (*id as usize) < size).collect();
    if ends.is_empty() {
        ends.extend(tokenizer.eos());
    }
    let Some(&first) = ends.first() else {
        return Err(ConstraintError::Tokenizer("the tokenizer has no end token".to_owned()));
    };
    let vocab = u32::try_from(size).map_err(|error| ConstraintError::Tokenizer(error.to_string()))?;
    let words: Vec<Vec<u8>> = (0..vocab).map(|id| word(tokenizer, id)).collect();
    let trie = llguidance::panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Ok(TokTrie::from(&TokRxInfo::new(vocab, first), &words).with_eos_tokens(&ends))
    }))
    .map_err(|error| ConstraintError::Tokenizer(error.to_string()))?;
    let canonical = !tokenizer.is_metaspace();
    Ok(Arc::new(Environment { tokenizer: tokenizer.clone(), trie, canonical }))
}

/// Bytes of a token in the trie. Special tokens are marked, to distinguish them from equal text; an id without a token is empty and
/// never allowed.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    let mut word = Vec::with_capacity(bytes.len() + 1);
    if tokenizer.is_special(id) {
        word.push(TokTrie::SPECIAL_TOKEN_MARKER);
    }
    word.extend_from_slice(bytes);
    word
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.tokenizer
                .encode(text, AllowSpecial::None)
                .unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
