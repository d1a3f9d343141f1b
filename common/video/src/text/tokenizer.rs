//! The prompt tokenizer, from `tokenizer/tokenizer.json`.

use std::path::Path;

use serde::Deserialize;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};
use videosdgx_tensor::{CheckpointError, read_bounded, read_json};

/// Maximum number of tokens of a prompt for UMT5, including the end token.
pub const MAX_TOKENS: usize = 512;
/// Largest `tokenizer.json` that is read, in bytes; UMT5's has 17 MB, Gemma's 33 MB.
const MAX_FILE_BYTES: u64 = 128 << 20;

/// The tokenizer of a checkpoint.
pub struct PromptTokenizer {
    tokenizer: Tokenizer,
    unknown: Option<u32>,
}

/// Token ids of a prompt, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptTokens {
    /// The ids, with the start or end token that the tokenizer adds.
    pub ids: Vec<i64>,
    /// Words that are not in the vocabulary, each once, in order.
    pub unknown_words: Vec<String>,
    /// Whether the prompt had more tokens than the limit and was truncated.
    pub truncated: bool,
}

#[derive(Deserialize, Default)]
struct TokenizerConfig {
    unk_token: Option<TokenName>,
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenName {
    Plain(String),
    Added { content: String },
}

impl TokenName {
    fn text(&self) -> &str {
        match self {
            Self::Plain(name) | Self::Added { content: name } => name,
        }
    }
}

impl PromptTokenizer {
    /// Opens the `tokenizer/` folder of a checkpoint; prompts are truncated to `max_tokens`, which include the start
    /// and the end token.
    ///
    /// # Errors
    /// `Missing` or `Invalid` naming the file.
    pub fn open(folder: &Path, max_tokens: usize) -> Result<Self, CheckpointError> {
        let path = folder.join("tokenizer.json");
        let bytes = read_bounded(&path, MAX_FILE_BYTES)?;
        let mut tokenizer =
            Tokenizer::from_bytes(&bytes).map_err(|error| CheckpointError::caused_by(&path, error))?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: TruncationDirection::Right,
        };
        let config_path = folder.join("tokenizer_config.json");
        let config = match read_json::<TokenizerConfig>(&config_path) {
            Err(CheckpointError::Missing { .. }) => TokenizerConfig::default(),
            config => config?,
        };
        if config.add_bos_token.is_some() || config.add_eos_token.is_some() {
            let template = template(&tokenizer, &config)
                .map_err(|reason| CheckpointError::invalid(&config_path, reason))?;
            tokenizer.with_post_processor(template);
        }
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| CheckpointError::caused_by(&path, error))?;
        let unknown = tokenizer.token_to_id(config.unk_token.as_ref().map_or("<unk>", TokenName::text));
        Ok(Self { tokenizer, unknown })
    }

    /// Tokenises a cleaned prompt.
    ///
    /// # Errors
    /// The tokenizer's error, when a rule of its file cannot be applied.
    pub fn encode(&self, prompt: &str) -> Result<PromptTokens, tokenizers::Error> {
        let encoding = self.tokenizer.encode(prompt, true)?;
        let mut unknown_words: Vec<String> = Vec::new();
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        for (_, &(start, end)) in tokens.filter(|&(&id, _)| Some(id) == self.unknown) {
            let word = word_around(prompt, start, end);
            if !word.is_empty() && !unknown_words.iter().any(|known| known == word) {
                unknown_words.push(word.to_owned());
            }
        }
        Ok(PromptTokens {
            ids: encoding.get_ids().iter().map(|&id| i64::from(id)).collect(),
            unknown_words,
            truncated: !encoding.get_overflowing().is_empty(),
        })
    }
}

/// What adds the start and the end token as `add_bos_token` and `add_eos_token` say, which transformers uses instead of
/// the rule in `tokenizer.json`.
fn template(tokenizer: &Tokenizer, config: &TokenizerConfig) -> Result<Option<TemplateProcessing>, String> {
    let token = |add: Option<bool>, token: &Option<TokenName>, field: &str| {
        let Some(token) = token.as_ref().filter(|_| add == Some(true)) else { return Ok(None) };
        let id = tokenizer.token_to_id(token.text());
        let id = id.ok_or_else(|| format!("{field} {:?} is not in the vocabulary", token.text()))?;
        Ok::<_, String>(Some((token.text().to_owned(), id)))
    };
    let bos = token(config.add_bos_token, &config.bos_token, "bos_token")?;
    let eos = token(config.add_eos_token, &config.eos_token, "eos_token")?;
    let name = |token: &Option<(String, u32)>| token.as_ref().map(|(name, _)| name.clone());
    let single: Vec<String> = [name(&bos), Some("$A".to_owned()), name(&eos)].into_iter().flatten().collect();
    let tokens: Vec<(String, u32)> = [bos, eos].into_iter().flatten().collect();
    if tokens.is_empty() {
        return Ok(None);
    }
    let built = TemplateProcessing::builder()
        .try_single(single)
        .and_then(|builder| builder.special_tokens(tokens).build().map_err(|error| error.to_string()));
    built.map(Some)
}

/// The word of `text` that contains the bytes `start..end`, without surrounding punctuation.
fn word_around(text: &str, start: usize, end: usize) -> &str {
    let (Some(before), Some(after)) = (text.get(..start), text.get(end.max(start)..)) else { return "" };
    // The token itself may begin with the space before the word.
    let skipped = text[start..].len() - text[start..].trim_start().len();
    let begin = match skipped {
        0 => before
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8)),
        _ => start + skipped,
    };
    let finish = end.max(start) + after.find(char::is_whitespace).unwrap_or(after.len());
    text.get(begin..finish)
        .unwrap_or("")
        .trim_matches(|letter: char| letter.is_whitespace() || letter.is_ascii_punctuation())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_word_is_named() {
        let text = "a (turquoise) circle";
        assert_eq!(word_around(text, 2, 5), "turquoise");
        assert_eq!(word_around(text, 1, 5), "turquoise");
        assert_eq!(word_around(text, 14, 20), "circle");
        assert_eq!(word_around("naïve été", 1, 4), "naïve");
        assert_eq!(word_around("naïve", 3, 4), "", "offsets inside a character give no word");
    }
}
