//! Text to token ids and back, from Hugging Face's `tokenizer.json` or from the vocabulary inside a GGUF file.

mod bytes;
mod error;
mod gguf;
mod load;
mod pieces;
mod pre_tokenizer;
mod special;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokenizers::tokenizer::{Model as _, NormalizedString, Normalizer as _, PreTokenizer as _};
use tokenizers::{OffsetType, PreTokenizedString};

use self::bytes::TokenBytes;
use self::pieces::{Borders, PIECE_BYTES};
use self::special::AddedTokens;
use crate::template::RenderedPrompt;

pub use self::error::TokenizerError;
pub use self::gguf::GgufVocabulary;

/// Longest text, bytes: twice what a context of 262,144 tokens holds of ordinary English.
pub const MAX_INPUT_BYTES: usize = 2 << 20;

/// Whether text may spell special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowSpecial {
    /// `<|im_end|>` in the text is the token: for what a template wrote.
    All,
    /// `<|im_end|>` in the text is nine or so ordinary tokens: for what a user wrote.
    None,
}

/// Whether special tokens appear in decoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowSpecial {
    /// As their content.
    Keep,
    /// Not at all.
    Skip,
}

/// A vocabulary and the rules of cutting text into it. Clones share everything.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    library: tokenizers::Tokenizer,
    added: AddedTokens,
    bytes: TokenBytes,
    /// Where long texts may be cut.
    borders: Option<Borders>,
    /// What raw prompts begin with: `[bos]` where the tokenizer adds one.
    prefix: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab", &self.vocab_size())
            .field("bos", &self.inner.bos)
            .field("eos", &self.inner.eos)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Token ids of `text`; nothing is put before or after it (see [`Tokenizer::prompt_prefix`]).
    ///
    /// # Errors
    /// [`TokenizerError::TooLong`] above [`MAX_INPUT_BYTES`]; [`TokenizerError::Encode`] when the library refuses.
    pub fn encode(&self, text: &str, allow: AllowSpecial) -> Result<Vec<u32>, TokenizerError> {
        check_length(text.len())?;
        match allow {
            AllowSpecial::All => self.encode_special(text),
            AllowSpecial::None => self.encode_plain(text),
        }
    }

    /// Token ids of a rendered conversation: special tokens only where the template wrote them. What users wrote that looks like
    /// one is ordinary text, joined with the text around it before it is cut.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered(&self, prompt: &RenderedPrompt) -> Result<Vec<u32>, TokenizerError> {
        check_length(prompt.text().len())?;
        if prompt.literal().is_empty() {
            return self.encode_special(prompt.text());
        }
        self.encode_found(prompt.text(), prompt.literal())
    }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD, one for each maximal part of a character.
    #[must_use]
    pub fn decode(&self, ids: &[u32], special: ShowSpecial) -> String {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        let mut first = true;
        for &id in ids {
            if special == ShowSpecial::Skip && self.is_special(id) {
                continue;
            }
            let token = self.token_bytes(id).unwrap_or_default();
            bytes.extend_from_slice(if first { self.without_leading_space(token) } else { token });
            first &= token.is_empty();
        }
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Bytes that token `id` stands for, which need not be whole characters; none for an id that no token has.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.inner.bytes.get(id)
    }

    /// One more than the highest id. The model's own vocabulary may be larger (padding), never smaller.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.bytes.len()
    }

    /// The id of the token spelt `token` (a special token's content, or a token in the vocabulary's own alphabet).
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.library.token_to_id(token)
    }

    /// Whether `id` is a control token, hidden from readers (`<|im_end|>`; not `<tool_call>` where that is an ordinary added token).
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.added.is_special(id)
    }

    /// Ids and contents of all added tokens by id: those that are recognised in templates before the text is cut.
    pub fn added_tokens(&self) -> impl Iterator<Item = (u32, &str)> {
        self.inner.added.iter()
    }

    /// What comes before a raw prompt (not before a rendered template, which writes it itself): `[bos]` or nothing.
    #[must_use]
    pub fn prompt_prefix(&self) -> &[u32] {
        &self.inner.prefix
    }

    /// The token that begins a text, where the vocabulary has one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.inner.bos
    }

    /// The token that ends a text. A generation configuration may name more.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.inner.eos
    }

    /// The piece of `token` that is shown when nothing was shown before it.
    pub(crate) fn without_leading_space<'a>(&self, token: &'a [u8]) -> &'a [u8] {
        if self.inner.bytes.strips_leading_space() {
            token.strip_prefix(b" ").unwrap_or(token)
        } else {
            token
        }
    }

    /// Whether cutting depends on what came before (SentencePiece's space at the beginning).
    pub(crate) fn spells_spaces(&self) -> bool {
        self.inner.bytes.is_metaspace()
    }

    pub(crate) fn added(&self) -> &AddedTokens {
        &self.inner.added
    }

    fn encode_special(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        if text.len() > PIECE_BYTES && self.inner.borders.is_some() {
            return self.encode_found(text, &[]);
        }
        guarded(|| Ok(self.inner.library.encode_fast(text, false)?.get_ids().to_vec()))
    }

    /// Added tokens outside of `literal`, and what is between them.
    fn encode_found(&self, text: &str, literal: &[Range<usize>]) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        let mut plain_from = 0;
        for (range, id) in self.inner.added.find(text, literal) {
            ids.extend(self.encode_plain(&text[plain_from..range.start])?);
            ids.push(id);
            plain_from = range.end;
        }
        ids.extend(self.encode_plain(&text[plain_from..])?);
        Ok(ids)
    }

    /// The library's own steps without the search for added tokens, part by part.
    fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let Some(borders) = self.inner.borders else { return guarded(|| self.encode_piece(text)) };
        let mut ids = Vec::new();
        for piece in borders.pieces(text, PIECE_BYTES) {
            ids.extend(guarded(|| self.encode_piece(piece))?);
        }
        Ok(ids)
    }

    fn encode_piece(&self, piece: &str) -> tokenizers::Result<Vec<u32>> {
        let library = &self.inner.library;
        let mut normalized = NormalizedString::from(piece);
        if let Some(normalizer) = library.get_normalizer() {
            normalizer.normalize(&mut normalized)?;
        }
        let mut pieces = PreTokenizedString::from(normalized);
        if let Some(pre_tokenizer) = library.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        pieces.tokenize(|piece| library.get_model().tokenize(piece.get()))?;
        let ids = pieces.into_encoding(None, 0, OffsetType::None)?.get_ids().to_vec();
        match ids.iter().find(|id| self.inner.added.contains(**id)) {
            // A vocabulary that makes a control token of plain text cannot tell the two apart.
            Some(id) => Err(format!("plain text became the special token {id}").into()),
            None => Ok(ids),
        }
    }
}

fn check_length(bytes: usize) -> Result<(), TokenizerError> {
    if bytes > MAX_INPUT_BYTES {
        Err(TokenizerError::TooLong { bytes, limit: MAX_INPUT_BYTES })
    } else {
        Ok(())
    }
}

/// The regular expressions of a checkpoint run in a C library whose binding panics when its limit of retries is reached.
fn guarded(encode: impl FnOnce() -> tokenizers::Result<Vec<u32>>) -> Result<Vec<u32>, TokenizerError> {
    match catch_unwind(AssertUnwindSafe(encode)) {
        Ok(Ok(ids)) => Ok(ids),
        Ok(Err(error)) => Err(TokenizerError::Encode(error.to_string())),
        Err(_) => Err(TokenizerError::Encode("the tokenizer's pattern is too slow on this text".to_owned())),
    }
}
