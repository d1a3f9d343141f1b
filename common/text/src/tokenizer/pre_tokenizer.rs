//! Pre-tokenizers by the names in GGUF files (`tokenizer.ggml.pre`, names of llama.cpp).

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use super::TokenizerError;

/// Qwen 2 and later: single digits.
pub(super) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama 3 and GLM 4: up to three digits (OpenAI's cl100k).
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// GPT-2: the library's own pattern, written out in some files.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Patterns without matches that extend from an ASCII letter or digit to a space or punctuation, or from any letter to a space.
pub(super) const PATTERNS: [&str; 3] = [QWEN2, CL100K, GPT2];

/// The pre-tokenization rules of a name.
pub(super) struct PreTokenization {
    pub(super) pre_tokenizer: PreTokenizerWrapper,
    /// Whether text is first normalised to Unicode form C (Qwen).
    pub(super) normalize: bool,
    /// Whether a piece that equals a token becomes this token regardless of the merges (Llama 3).
    pub(super) ignore_merges: bool,
    /// Whether prompts begin with `bos`, by default.
    pub(super) add_bos: bool,
}

/// # Errors
/// [`TokenizerError::Unsupported`] for an unknown name: guessed rules could silently produce wrong tokens.
pub(super) fn by_name(name: &str) -> Result<PreTokenization, TokenizerError> {
    let (pre_tokenizer, normalize, ignore_merges) = match name {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jina-en" | "jina-es" | "jina-de" => {
            (byte_level(true), false, false)
        }
        "smollm" | "starcoder" | "codeshell" | "refact" | "command-r" | "exaone" => {
            let digits = PreTokenizerWrapper::from(Digits::new(true));
            (Sequence::new(vec![digits, byte_level(true)]).into(), false, false)
        }
        "qwen2" | "deepseek-r1-qwen" => (split(QWEN2)?, true, false),
        "stablelm2" | "megrez" => (split(QWEN2)?, false, false),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "pixtral" => (split(CL100K)?, false, true),
        "glm4" | "chatglm-bpe" | "smaug-bpe" | "dbrx" => (split(CL100K)?, false, false),
        other => {
            return Err(TokenizerError::Unsupported { key: "tokenizer.ggml.pre", value: other.to_owned() });
        }
    };
    Ok(PreTokenization { pre_tokenizer, normalize, ignore_merges, add_bos: ignore_merges })
}

fn byte_level(use_regex: bool) -> PreTokenizerWrapper {
    ByteLevel::new(false, false, use_regex).into()
}

fn split(pattern: &str) -> Result<PreTokenizerWrapper, TokenizerError> {
    let split = Split::new(SplitPattern::Regex(pattern.to_owned()), SplitDelimiterBehavior::Isolated, false)
        .map_err(TokenizerError::invalid)?;
    Ok(Sequence::new(vec![split.into(), byte_level(false)]).into())
}
