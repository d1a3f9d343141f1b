//! Tokenizers, from Hugging Face's `tokenizer.json` or from the vocabulary in a GGUF file.

mod bytes;
mod direct;
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
use self::direct::DirectRules;
use self::pieces::{Boundaries, PIECE_BYTES};
use self::special::AddedTokens;
use crate::template::RenderedPrompt;

pub use self::error::TokenizerError;
pub use self::gguf::GgufVocabulary;

/// Maximum length of a text to encode, bytes: twice the length of 262,144 tokens of typical English.
pub const MAX_INPUT_BYTES: usize = 2 << 20;

/// Whether special tokens are recognised in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowSpecial {
    /// `<|im_end|>` in the text becomes the special token: for text of a template.
    All,
    /// `<|im_end|>` in the text becomes several ordinary tokens: for text of a user.
    None,
}

/// Whether special tokens appear in decoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowSpecial {
    /// They appear as their text.
    Keep,
    /// They are omitted.
    Skip,
}

/// A tokenizer. Clones share everything.
///
/// ```no_run
/// use videosdgx_text::{AllowSpecial, ShowSpecial, Tokenizer};
///
/// let json = std::fs::read("tokenizer.json").expect("the file exists");
/// let tokenizer = Tokenizer::from_json(&json, None, Some("<|im_end|>"))?;
/// let ids = tokenizer.encode("Hello", AllowSpecial::None)?;
/// assert_eq!(tokenizer.decode(&ids, ShowSpecial::Skip), "Hello");
/// # Ok::<(), videosdgx_text::TokenizerError>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    library: tokenizers::Tokenizer,
    added: AddedTokens,
    bytes: TokenBytes,
    /// Where long texts may be split before encoding.
    boundaries: Option<Boundaries>,
    /// How plain text is encoded without the library's intermediate forms.
    direct: Option<DirectRules>,
    /// Initial tokens of raw prompts: `[bos]` if the tokenizer adds one.
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
    /// Encodes `text`, without initial or final special tokens (see [`Tokenizer::prompt_prefix`]).
    ///
    /// # Errors
    /// [`TokenizerError::TooLong`] above [`MAX_INPUT_BYTES`]; [`TokenizerError::Encode`] for errors of the library.
    pub fn encode(&self, text: &str, allow: AllowSpecial) -> Result<Vec<u32>, TokenizerError> {
        check_length(text.len())?;
        match allow {
            AllowSpecial::All => self.encode_special(text),
            AllowSpecial::None => self.encode_plain(text),
        }
    }

    /// Encodes a rendered conversation: special tokens are recognised only in the template's own text. Elsewhere, their text is encoded
    /// as ordinary text together with the text around it.
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

    /// Decodes `ids`. Invalid UTF-8 becomes U+FFFD, one per maximal part of a character.
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

    /// Bytes of token `id`, which may be an incomplete UTF-8 sequence; `None` for an id without a token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.inner.bytes.get(id)
    }

    /// The highest id plus one. The model's output may be larger (padding) but not smaller.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.bytes.len()
    }

    /// The id of a token, given as the text of an added token or as a token in the vocabulary's alphabet.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.library.token_to_id(token)
    }

    /// Whether `id` is a control token that is not output (`<|im_end|>`, but not `<tool_call>` if that is an ordinary added token).
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.added.is_special(id)
    }

    /// Ids and texts of all added tokens, which are recognised before the text is split, in order of id.
    pub fn added_tokens(&self) -> impl Iterator<Item = (u32, &str)> {
        self.inner.added.iter()
    }

    /// Initial tokens of a raw prompt: `[bos]` or none. (A rendered template contains them itself.)
    #[must_use]
    pub fn prompt_prefix(&self) -> &[u32] {
        &self.inner.prefix
    }

    /// The token that begins a text, if the vocabulary has one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.inner.bos
    }

    /// The token that ends a text. The checkpoint's generation configuration may have more.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.inner.eos
    }

    /// The bytes of `token` at the beginning of a text.
    pub(crate) fn without_leading_space<'a>(&self, token: &'a [u8]) -> &'a [u8] {
        if self.inner.bytes.strips_leading_space() {
            token.strip_prefix(b" ").unwrap_or(token)
        } else {
            token
        }
    }

    /// Whether the encoding depends on the preceding text (SentencePiece's initial space).
    pub(crate) fn is_metaspace(&self) -> bool {
        self.inner.bytes.is_metaspace()
    }

    pub(crate) fn added(&self) -> &AddedTokens {
        &self.inner.added
    }

    fn encode_special(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        if text.len() > PIECE_BYTES && self.inner.boundaries.is_some() {
            return self.encode_found(text, &[]);
        }
        guarded(|| Ok(self.inner.library.encode_fast(text, false)?.get_ids().to_vec()))
    }

    /// Encodes a text with added tokens, which are recognised outside `literal`.
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

    /// Performs the library's steps without the search for added tokens, piece by piece.
    fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let Some(boundaries) = self.inner.boundaries else { return guarded(|| self.encode_piece(text)) };
        let mut ids = Vec::new();
        for piece in boundaries.pieces(text, PIECE_BYTES) {
            ids.extend(guarded(|| self.encode_piece(piece))?);
        }
        Ok(ids)
    }

    fn encode_piece(&self, piece: &str) -> tokenizers::Result<Vec<u32>> {
        let Some(direct) = &self.inner.direct else { return self.encode_with_library(piece) };
        let library = &self.inner.library;
        let ids = match library.get_normalizer() {
            None => direct.encode(piece, library.get_model())?,
            Some(normalizer) => {
                let mut normalized = NormalizedString::from(piece);
                normalizer.normalize(&mut normalized)?;
                direct.encode(normalized.get(), library.get_model())?
            }
        };
        self.without_added(ids)
    }

    fn encode_with_library(&self, piece: &str) -> tokenizers::Result<Vec<u32>> {
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
        self.without_added(pieces.into_encoding(None, 0, OffsetType::None)?.get_ids().to_vec())
    }

    fn without_added(&self, ids: Vec<u32>) -> tokenizers::Result<Vec<u32>> {
        match ids.iter().find(|id| self.inner.added.contains(**id)) {
            // With such a vocabulary, plain text and control tokens cannot be distinguished.
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

/// Converts a panic to an error: the binding of the regular expression library panics when a pattern exceeds its retry limit.
fn guarded(encode: impl FnOnce() -> tokenizers::Result<Vec<u32>>) -> Result<Vec<u32>, TokenizerError> {
    match catch_unwind(AssertUnwindSafe(encode)) {
        Ok(Ok(ids)) => Ok(ids),
        Ok(Err(error)) => Err(TokenizerError::encode(error)),
        Err(_) => Err(TokenizerError::encode("the tokenizer's pattern is too slow on this text")),
    }
}
