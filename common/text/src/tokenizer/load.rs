//! Construction of a [`Tokenizer`] from the library's tokenizer.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokenizers::tokenizer::Model as _;
use tokenizers::{AddedToken, Tokenizer as Library};

use super::bytes::{Alphabet, Kind, TokenBytes};
use super::direct::DirectRules;
use super::pieces::Boundaries;
use super::special::AddedTokens;
use super::{Inner, Tokenizer, TokenizerError};

/// Maximum number of tokens; the largest vocabularies have about 260,000.
pub(super) const MAX_VOCAB: usize = 1 << 21;

/// Properties that the library's tokenizer does not have.
pub(super) struct Facts {
    pub(super) prefix: Vec<u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
}

impl Tokenizer {
    /// Loads the content of a `tokenizer.json`. `bos` and `eos` are the texts of these tokens, from `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Invalid`] for an invalid or unsupported tokenizer.
    pub fn from_json(json: &[u8], bos: Option<&str>, eos: Option<&str>) -> Result<Self, TokenizerError> {
        let mut library = Library::from_bytes(json).map_err(TokenizerError::invalid)?;
        library.with_padding(None);
        library.with_truncation(None).map_err(TokenizerError::invalid)?;
        let id = |content: Option<&str>| content.and_then(|content| library.token_to_id(content));
        let facts = Facts { prefix: prefix(&library), bos: id(bos), eos: id(eos) };
        Self::from_library(library, facts)
    }

    pub(super) fn from_library(library: Library, facts: Facts) -> Result<Self, TokenizerError> {
        let alphabet = Alphabet::of(library.get_decoder())?;
        let added: BTreeMap<u32, AddedToken> = library.get_added_tokens_decoder().into_iter().collect();
        let vocabulary = library.get_model().get_vocab();
        let highest = vocabulary.values().chain(added.keys()).max().copied();
        let size = highest.map_or(0, |id| id as usize + 1);
        if size == 0 || size > MAX_VOCAB {
            return Err(TokenizerError::invalid(format!("highest token id is {highest:?}")));
        }
        let mut tokens = vec![None; size];
        for (token, id) in vocabulary {
            tokens[id as usize] = Some((token, Kind::Model));
        }
        for (id, token) in &added {
            tokens[*id as usize] = Some((token.content.clone(), Kind::Added));
        }
        let direct = DirectRules::of(library.get_pre_tokenizer());
        let boundaries = Boundaries::of(library.get_pre_tokenizer(), added.values());
        Ok(Self {
            inner: Arc::new(Inner {
                boundaries,
                direct,
                bytes: TokenBytes::new(&tokens, alphabet),
                added: AddedTokens::new(added)?,
                library,
                prefix: facts.prefix,
                bos: facts.bos,
                eos: facts.eos,
            }),
        })
    }
}

/// The tokens that the post-processor puts before a text, found by encoding a letter with and without it.
fn prefix(library: &Library) -> Vec<u32> {
    let ids = |text: &str, special: bool| {
        library.encode_fast(text, special).map(|encoding| encoding.get_ids().to_vec())
    };
    match (ids("a", true), ids("a", false)) {
        (Ok(with), Ok(without)) if !without.is_empty() => {
            let start = with.windows(without.len()).position(|window| window == without).unwrap_or(0);
            with[..start].to_vec()
        }
        _ => Vec::new(),
    }
}
