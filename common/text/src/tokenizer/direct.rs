//! Encodes plain text without the library's intermediate forms.
//!
//! The library keeps the original text and the alignment of every byte for each piece that the pre-tokenizer finds, which takes
//! microseconds for each piece: seconds for megabytes of text that splits into single characters. Here the pieces are slices of the
//! text. Rules, normalizer and model are the library's, so the result is the same.

use serde_json::Value;
use tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::Model;
use tokenizers::utils::SysRegex;

use super::bytes::byte_level_alphabet;
use super::pre_tokenizer;

/// The rules of a byte-level pre-tokenizer.
pub(super) struct DirectRules {
    steps: Vec<Step>,
    /// Character by byte.
    alphabet: [char; 256],
}

/// A rule that splits a text.
enum Step {
    /// Each digit is a piece.
    Digits,
    /// Each match is a piece, and so is what lies between two matches.
    Matches(SysRegex),
}

impl DirectRules {
    /// `None` for rules that are not known here.
    pub(super) fn of(pre_tokenizer: Option<&PreTokenizerWrapper>) -> Option<Self> {
        let rules = serde_json::to_value(pre_tokenizer?).ok()?;
        let steps = match rules.get("pretokenizers").and_then(Value::as_array) {
            Some(steps) => steps.as_slice(),
            None => std::slice::from_ref(&rules),
        };
        let (last, before) = steps.split_last()?;
        let mut known = before.iter().map(Step::of).collect::<Option<Vec<_>>>()?;
        if last["type"] != "ByteLevel" || last["add_prefix_space"] != false {
            return None;
        }
        if last["use_regex"] != false {
            known.push(Step::Matches(SysRegex::new(pre_tokenizer::GPT2).ok()?));
        }
        Some(Self { steps: known, alphabet: byte_level_alphabet() })
    }

    /// Encodes a text that is already normalised.
    pub(super) fn encode(&self, text: &str, model: &impl Model) -> tokenizers::Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        self.pieces(text, &mut |piece| {
            ids.extend(model.tokenize(piece)?.into_iter().map(|token| token.id));
            Ok(())
        })?;
        Ok(ids)
    }

    /// The pieces of a text, in the byte-level alphabet.
    fn pieces(
        &self,
        text: &str,
        each: &mut dyn FnMut(&str) -> tokenizers::Result<()>,
    ) -> tokenizers::Result<()> {
        let mut spelled = String::new();
        split(&self.steps, text, &mut |piece| {
            spelled.clear();
            spelled.extend(piece.bytes().map(|byte| self.alphabet[usize::from(byte)]));
            each(&spelled)
        })
    }
}

impl Step {
    fn of(step: &Value) -> Option<Self> {
        match step["type"].as_str()? {
            "Digits" if step["individual_digits"] == true => Some(Self::Digits),
            "Split" if step["behavior"] == "Isolated" && step["invert"] == false => {
                Some(Self::Matches(SysRegex::new(step["pattern"]["Regex"].as_str()?).ok()?))
            }
            _ => None,
        }
    }
}

/// Applies the rules one after the other, each to the pieces of the one before.
fn split(
    steps: &[Step],
    text: &str,
    each: &mut dyn FnMut(&str) -> tokenizers::Result<()>,
) -> tokenizers::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let Some((step, rest)) = steps.split_first() else { return each(text) };
    let mut from = 0;
    let mut cut = |start: usize, end: usize| {
        split(rest, &text[from..start], each)?;
        from = end;
        split(rest, &text[start..end], each)
    };
    match step {
        Step::Digits => {
            for (start, digit) in text.char_indices().filter(|(_, character)| character.is_numeric()) {
                cut(start, start + digit.len_utf8())?;
            }
        }
        Step::Matches(pattern) => {
            for (start, end) in pattern.find_iter(text) {
                cut(start, end)?;
            }
        }
    }
    cut(text.len(), text.len())
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom as _;
    use rand::{Rng as _, SeedableRng as _};
    use tokenizers::tokenizer::PreTokenizer as _;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString};

    use super::*;
    use crate::Tokenizer;

    const PARTS: [&str; 30] = [
        "a",
        "Z",
        "word",
        "don't",
        "'LL",
        "'s",
        "0",
        "12345",
        "٣",
        "½",
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\n\n",
        ".",
        "!?",
        "_",
        "é",
        "e\u{301}",
        "漢字",
        "ß",
        "🙂",
        "👩\u{200d}🚀",
        "\u{a0}",
        "\u{2003}",
        "\u{0}",
        "İ",
        "ﬁ",
    ];

    fn texts(seed: u64) -> impl Iterator<Item = String> {
        let mut random = StdRng::seed_from_u64(seed);
        (0..400).map(move |_| {
            let parts = random.random_range(0..24);
            (0..parts).filter_map(|_| PARTS.choose(&mut random).copied()).collect()
        })
    }

    #[test]
    fn the_pieces_are_the_librarys() {
        for name in ["gpt-2", "smollm", "qwen2", "llama3", "glm4"] {
            let rules = pre_tokenizer::by_name(name).expect("a known name").pre_tokenizer;
            let direct = DirectRules::of(Some(&rules)).expect("known rules");
            for text in texts(7) {
                let mut library = PreTokenizedString::from(text.as_str());
                rules.pre_tokenize(&mut library).expect("pieces");
                let expected: Vec<&str> = library
                    .get_splits(OffsetReferential::Normalized, OffsetType::None)
                    .into_iter()
                    .map(|(piece, ..)| piece)
                    .collect();
                let mut found = Vec::new();
                direct
                    .pieces(&text, &mut |piece| {
                        found.push(piece.to_owned());
                        Ok(())
                    })
                    .expect("pieces");
                assert_eq!(found, expected, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn other_rules_are_left_to_the_library() {
        for rules in [
            r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}"#,
            r#"{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}"#,
            r#"{"type": "Digits", "individual_digits": true}"#,
            r#"{"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]}"#,
        ] {
            let rules: PreTokenizerWrapper = serde_json::from_str(rules).expect("rules of the library");
            assert!(DirectRules::of(Some(&rules)).is_none(), "{rules:?}");
        }
        assert!(DirectRules::of(None).is_none());
    }

    fn tokenizer(name: &str) -> Tokenizer {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/language").join(name);
        Tokenizer::from_json(&std::fs::read(path).expect("a fixture"), None, None).expect("a tokenizer")
    }

    #[test]
    fn the_tokens_are_the_librarys() {
        let tokenizer = tokenizer("tokenizer.json");
        assert!(tokenizer.inner.direct.is_some());
        for text in texts(8) {
            let direct = tokenizer.encode_piece(&text).map_err(|error| error.to_string());
            let library = tokenizer.encode_with_library(&text).map_err(|error| error.to_string());
            assert_eq!(direct, library, "{text:?}");
        }
    }
}
