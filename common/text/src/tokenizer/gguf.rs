//! Builds a byte-level BPE tokenizer from the vocabulary in a GGUF file (`tokenizer.ggml.*`).

use std::collections::BTreeMap;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::{AddedToken, Tokenizer as Library};

use super::load::{Facts, MAX_VOCAB};
use super::{Tokenizer, TokenizerError, pre_tokenizer};

/// Values of `tokenizer.ggml.token_type`.
mod token_type {
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
}

/// Tokenizer metadata of a GGUF file, named as after `tokenizer.ggml.`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GgufVocabulary {
    /// Model type; only `gpt2` is supported.
    pub model: String,
    /// Name of the pre-tokenizer: `smollm`, `qwen2`, `llama-bpe`, `glm4`, …
    pub pre: String,
    /// Tokens by id, in the byte-level alphabet.
    pub tokens: Vec<String>,
    /// Merges in order of priority, such as `Ġ t`.
    pub merges: Vec<String>,
    /// Type by id: 1 normal, 3 control, 4 user defined, …; empty: all normal.
    pub token_types: Vec<i32>,
    /// `bos_token_id`: the token that begins a text.
    pub bos: Option<u32>,
    /// `eos_token_id`: the token that ends a text.
    pub eos: Option<u32>,
    /// `add_bos_token`: whether prompts begin with `bos`; if missing, depends on `pre`.
    pub add_bos: Option<bool>,
}

impl Tokenizer {
    /// Builds a tokenizer from the vocabulary of a GGUF file.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for an unknown model or pre-tokenizer, [`TokenizerError::Invalid`] for inconsistent tokens and
    /// merges.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, TokenizerError> {
        if vocabulary.model != "gpt2" {
            return Err(TokenizerError::Unsupported { key: "tokenizer.ggml.model", value: vocabulary.model });
        }
        let rules = pre_tokenizer::by_name(&vocabulary.pre)?;
        let size = vocabulary.tokens.len();
        if size == 0 || size > MAX_VOCAB {
            return Err(invalid(format!("tokenizer.ggml.tokens has {size} tokens")));
        }
        let types = &vocabulary.token_types;
        if !types.is_empty() && types.len() != size {
            return Err(invalid(format!(
                "tokenizer.ggml.token_type has {} entries for {size} tokens",
                types.len()
            )));
        }
        for (key, id) in [("bos_token_id", vocabulary.bos), ("eos_token_id", vocabulary.eos)] {
            if id.is_some_and(|id| id as usize >= size) {
                return Err(invalid(format!("tokenizer.ggml.{key} is not below {size}")));
            }
        }
        let mut added = BTreeMap::new();
        for (id, kind) in (0_u32..).zip(types) {
            if matches!(*kind, token_type::CONTROL | token_type::USER_DEFINED) {
                let content = vocabulary.tokens[id as usize].clone();
                added.insert(id, AddedToken::from(content, *kind == token_type::CONTROL).normalized(false));
            }
        }
        let merges = parse_merges(&vocabulary.merges)?;
        let ids: Vec<(String, u32)> = vocabulary.tokens.into_iter().zip(0_u32..).collect();
        let model = BPE::builder()
            .vocab_and_merges(ids.into_iter().collect::<std::collections::HashMap<_, _, _>>(), merges)
            .ignore_merges(rules.ignore_merges)
            .build()
            .map_err(|error| invalid(format!("tokenizer.ggml.merges: {error}")))?;
        let mut library = Library::new(model);
        if rules.normalize {
            library.with_normalizer(Some(NFC)).map_err(|error| invalid(error.to_string()))?;
        }
        library.with_pre_tokenizer(Some(rules.pre_tokenizer));
        library.with_decoder(Some(ByteLevel::default()));
        library.add_tokens(added.into_values()).map_err(|error| invalid(error.to_string()))?;
        let prefix = if vocabulary.add_bos.unwrap_or(rules.add_bos) { vocabulary.bos } else { None };
        Self::from_library(
            library,
            Facts { prefix: prefix.into_iter().collect(), bos: vocabulary.bos, eos: vocabulary.eos },
        )
    }
}

fn parse_merges(merges: &[String]) -> Result<Vec<(String, String)>, TokenizerError> {
    merges
        .iter()
        .enumerate()
        .map(|(number, merge)| match merge.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                Ok((left.to_owned(), right.to_owned()))
            }
            _ => Err(invalid(format!("tokenizer.ggml.merges[{number}] is not a pair"))),
        })
        .collect()
}

fn invalid(reason: String) -> TokenizerError {
    TokenizerError::invalid(reason)
}
