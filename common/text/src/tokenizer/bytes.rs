//! Table of the bytes of all tokens, for decoding, constraints and log-probabilities.

use tokenizers::DecoderWrapper;

use super::TokenizerError;

/// Bytes by token id.
pub(super) struct TokenBytes {
    bytes: Vec<u8>,
    /// Token `id` is `bytes[ends[id - 1]..ends[id]]`.
    ends: Vec<u32>,
    /// Whether a token has the id.
    present: Vec<bool>,
    alphabet: Alphabet,
}

impl TokenBytes {
    pub(super) fn new(tokens: &[Option<(String, Kind)>], alphabet: Alphabet) -> Self {
        let mut table = Self {
            bytes: Vec::with_capacity(tokens.len() * 6),
            ends: Vec::with_capacity(tokens.len()),
            present: Vec::with_capacity(tokens.len()),
            alphabet,
        };
        let map = byte_level_map();
        for token in tokens {
            if let Some((text, kind)) = token {
                match (kind, alphabet) {
                    (Kind::Added, _) => table.bytes.extend_from_slice(text.as_bytes()),
                    (Kind::Model, Alphabet::ByteLevel) => push_byte_level(&mut table.bytes, text, &map),
                    (Kind::Model, Alphabet::Metaspace { .. }) => push_metaspace(&mut table.bytes, text),
                }
            }
            table.present.push(token.is_some());
            table.ends.push(u32::try_from(table.bytes.len()).unwrap_or(u32::MAX));
        }
        table
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        if !self.present.get(id).copied().unwrap_or(false) {
            return None;
        }
        let start = if id == 0 { 0 } else { self.ends[id - 1] as usize };
        self.bytes.get(start..self.ends[id] as usize)
    }

    pub(super) fn strips_leading_space(&self) -> bool {
        matches!(self.alphabet, Alphabet::Metaspace { strips_leading_space: true })
    }

    pub(super) fn is_metaspace(&self) -> bool {
        matches!(self.alphabet, Alphabet::Metaspace { .. })
    }
}

/// Origin of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From the model's vocabulary, encoded in its alphabet.
    Model,
    /// An added token, in plain text.
    Added,
}

/// How a vocabulary encodes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// GPT-2: each byte is one printable character (`Ġ` is a space).
    ByteLevel,
    /// SentencePiece: plain text, `▁` for a space, `<0x0A>` for a byte.
    Metaspace { strips_leading_space: bool },
}

impl Alphabet {
    /// Detects the alphabet from the tokenizer's decoder.
    pub(super) fn of(decoder: Option<&DecoderWrapper>) -> Result<Self, TokenizerError> {
        let value = serde_json::to_value(decoder).map_err(TokenizerError::invalid)?;
        let parts = match value.get("decoders").and_then(serde_json::Value::as_array) {
            Some(parts) => parts.clone(),
            None => vec![value],
        };
        let is = |name: &str| parts.iter().any(|part| part["type"] == name);
        if is("ByteLevel") {
            return Ok(Self::ByteLevel);
        }
        if is("ByteFallback") || is("Metaspace") {
            let strips_leading_space = is("Strip")
                || parts.iter().any(|part| part["type"] == "Metaspace" && part["prepend_scheme"] != "never");
            return Ok(Self::Metaspace { strips_leading_space });
        }
        let names: Vec<_> = parts.iter().map(|part| part["type"].to_string()).collect();
        Err(TokenizerError::invalid(format!("decoder {} is not supported", names.join(", "))))
    }
}

fn push_byte_level(bytes: &mut Vec<u8>, token: &str, map: &[u16]) {
    let start = bytes.len();
    for character in token.chars() {
        match map.get(character as usize) {
            Some(&byte) if byte < 256 => bytes.push(byte.to_le_bytes()[0]),
            // A character outside the alphabet: the whole token is plain text, as in the library.
            _ => {
                bytes.truncate(start);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

fn push_metaspace(bytes: &mut Vec<u8>, token: &str) {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|hex| hex.len() == 2);
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => bytes.push(byte),
        None => bytes.extend_from_slice(token.replace('▁', " ").as_bytes()),
    }
}

/// GPT-2's `bytes_to_unicode`: the character that stands for each byte.
pub(super) fn byte_level_alphabet() -> [char; 256] {
    let mut alphabet = ['\0'; 256];
    for (character, byte) in (0_u32..).zip(byte_level_map()) {
        if let (Some(place), Some(character)) =
            (alphabet.get_mut(usize::from(byte)), char::from_u32(character))
        {
            *place = character;
        }
    }
    alphabet
}

/// Byte by character (below 324), 256 for none: the inverse of GPT-2's `bytes_to_unicode`.
fn byte_level_map() -> [u16; 324] {
    let mut map = [256_u16; 324];
    let mut next = 256_usize;
    for byte in 0..=255_u16 {
        if matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) {
            map[byte as usize] = byte;
        } else {
            map[next] = byte;
            next += 1;
        }
    }
    map
}
