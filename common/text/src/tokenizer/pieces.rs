//! Splits long texts at boundaries of the pre-tokenizer, to bound the memory of the library, which needs about a hundred bytes per
//! byte of text.

use tokenizers::{AddedToken, PreTokenizerWrapper};

use super::pre_tokenizer;

/// Minimum length of a piece, bytes.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// Rules for the positions at which a text may be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boundaries {
    /// Also between two digits, because each digit is a separate piece.
    digits: bool,
}

impl Boundaries {
    /// The boundaries that no rule of the pre-tokenizer crosses; `None` for unknown rules, and for added tokens that include adjacent
    /// white space.
    pub(super) fn of<'a>(
        pre_tokenizer: Option<&PreTokenizerWrapper>,
        mut added: impl Iterator<Item = &'a AddedToken>,
    ) -> Option<Self> {
        let rules = serde_json::to_value(pre_tokenizer).ok()?;
        let steps = match rules.get("pretokenizers").and_then(serde_json::Value::as_array) {
            Some(steps) => steps.clone(),
            None => vec![rules],
        };
        let spells = |step: &serde_json::Value, pattern: &str| step["pattern"]["Regex"] == pattern;
        let known = steps.iter().all(|step| match step["type"].as_str() {
            Some("ByteLevel") => step["add_prefix_space"] == false,
            Some("Digits") => true,
            Some("Split") => {
                step["behavior"] == "Isolated"
                    && pre_tokenizer::PATTERNS.iter().any(|pattern| spells(step, pattern))
            }
            _ => false,
        });
        let digits =
            steps.iter().any(|step| step["individual_digits"] == true || spells(step, pre_tokenizer::QWEN2));
        (known && added.all(|token| !token.lstrip && !token.rstrip && !token.normalized))
            .then_some(Self { digits })
    }

    /// In all known rules, letters and digits end before ASCII spaces and punctuation. (Outside ASCII, definitions of letters differ.)
    fn between(self, before: char, character: char) -> bool {
        (character == ' ' && before.is_alphanumeric())
            || (before.is_ascii_alphanumeric()
                && (character.is_ascii_punctuation() || character.is_ascii_whitespace()))
            || (self.digits && before.is_ascii_digit() && character.is_ascii_digit())
    }

    /// Splits `text`, which has no added tokens, into pieces of at least `bytes` (except the last) that can be encoded separately with
    /// the same result.
    pub(super) fn pieces(self, text: &str, bytes: usize) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let mut before = None;
            let end = rest.char_indices().find_map(|(place, character)| {
                let border = place >= bytes && before.is_some_and(|before| self.between(before, character));
                before = Some(character);
                border.then_some(place)
            });
            let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            Some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::Boundaries;
    use crate::{AllowSpecial, Tokenizer};

    fn fixture(name: &str) -> Vec<u8> {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/language").join(name);
        std::fs::read(path).expect("the fixture is committed")
    }

    /// Split at every boundary, the texts of the reference have the tokens of the reference.
    #[test]
    fn cuts_do_not_change_tokens() {
        let tokenizer = Tokenizer::from_json(&fixture("tokenizer.json"), None, None).expect("a tokenizer");
        let boundaries = tokenizer.inner.boundaries.expect("known rules");
        assert!(boundaries.digits);
        let golden: Value = serde_json::from_slice(&fixture("tokens.json")).expect("JSON");
        let mut cut = 0;
        for case in golden["tokenizer"].as_array().expect("a list") {
            let text = case["text"].as_str().expect("a text");
            cut += boundaries.pieces(text, 1).count().saturating_sub(1);
            let pieces = boundaries.pieces(text, 1);
            let ids = pieces.flat_map(|piece| tokenizer.encode(piece, AllowSpecial::None).expect("encodes"));
            let expected = case.get("plain").unwrap_or(&case["ids"]).as_array().expect("a list");
            assert_eq!(ids.map(Value::from).collect::<Vec<_>>(), *expected, "{text:?}");
            // Added tokens are found first.
            let ids = tokenizer.encode_found(text, &[]).expect("encodes");
            assert_eq!(Value::from(ids), case["ids"], "{text:?}");
        }
        assert!(cut > 100, "{cut} cuts");
    }

    #[test]
    fn pieces_are_the_text() {
        let text = "word ".repeat(100);
        let boundaries = Boundaries { digits: false };
        let parts: Vec<&str> = boundaries.pieces(&text, 48).collect();
        assert_eq!(parts.concat(), text);
        assert!(parts.len() > 5 && parts.iter().rev().skip(1).all(|part| part.len() >= 48));
        assert_eq!(boundaries.pieces("12345é!é!", 1).count(), 1);
        assert_eq!(Boundaries { digits: true }.pieces("12345", 1).count(), 5);
        assert_eq!(boundaries.pieces("", 1).count(), 0);
    }

    /// SentencePiece's rules depend on the preceding text, so texts are never split.
    #[test]
    fn unknown_rules_are_never_cut() {
        let tokenizer = Tokenizer::from_json(&fixture("llama.json"), None, None).expect("a tokenizer");
        assert_eq!(tokenizer.inner.boundaries, None);
    }
}
