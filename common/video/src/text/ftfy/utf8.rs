//! UTF-8 as other programs damage it: spaces in place of a byte, lost bytes, surrogates encoded one by one.

use std::sync::LazyLock;

use regex::bytes::{Captures, Regex};

fn bytes_regex(alternatives: &[&str]) -> Regex {
    Regex::new(&format!("(?-u){}", alternatives.join("|"))).expect("the expression is valid")
}

/// Sequences that are UTF-8 if the space in them is the byte A0, limited to lead bytes of likely characters.
static ALTERED: LazyLock<Regex> = LazyLock::new(|| {
    bytes_regex(&[
        r"[\xc2\xc3\xc5\xce\xd0\xd9] ",
        r"[\xe2\xe3] [\x80-\x84\x86-\x9f\xa1-\xbf]",
        r"[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf] ",
        r"\xf0 [\x80-\xbf][\x80-\xbf]",
        r"\xf0[\x80-\xbf] [\x80-\xbf]",
        r"\xf0[\x80-\xbf][\x80-\xbf] ",
    ])
});

/// UTF-8 and CESU-8 sequences of which bytes were lost: 1A stands for U+FFFD, and one of them may be a question mark.
static LOSSY: LazyLock<Regex> = LazyLock::new(|| {
    bytes_regex(&[
        r"[\xc2-\xdf]\x1a",
        r"[\xc2-\xc3]\?",
        r"\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]",
        r"\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]",
        r"[\xe0-\xef][\x1a?][\x1a\x80-\xbf]",
        r"[\xe0-\xef][\x1a\x80-\xbf][\x1a?]",
        r"[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]",
        r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]",
        r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]",
        r"\x1a",
    ])
});

/// Replaces spaces by the byte A0 where that completes a likely UTF-8 sequence.
pub(super) fn restore_byte_a0(bytes: Vec<u8>) -> Vec<u8> {
    if !ALTERED.is_match(&bytes) {
        return bytes;
    }
    let restored = |found: &Captures<'_>| {
        found[0].iter().map(|&byte| if byte == b' ' { 0xa0 } else { byte }).collect::<Vec<u8>>()
    };
    ALTERED.replace_all(&separate_a_grave(&bytes), restored).into_owned()
}

/// "Ã la" is mostly "à la", of which the two spaces became one: the word "à" keeps the space after it, except in the
/// Portuguese "às", "àquele", "àquela", "àquilo".
fn separate_a_grave(bytes: &[u8]) -> Vec<u8> {
    const ONE_WORD: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    let mut separated = Vec::with_capacity(bytes.len() + 8);
    for (at, &byte) in bytes.iter().enumerate() {
        separated.push(byte);
        let after = bytes[at..].strip_prefix(b"\xc3 ");
        if after.is_some_and(|after| !ONE_WORD.iter().any(|word| after.starts_with(word))) {
            separated.push(0xa0);
        }
    }
    separated
}

/// Replaces sequences of which bytes were lost by U+FFFD.
pub(super) fn replace_lossy_sequences(bytes: Vec<u8>) -> Vec<u8> {
    let replaced = LOSSY.replace_all(&bytes, "\u{fffd}".as_bytes());
    replaced.into_owned()
}

/// Decodes UTF-8, with CESU-8's pairs of encoded surrogates and Java's C0 80 for U+0000.
pub(super) fn decode(bytes: Vec<u8>) -> Option<String> {
    if !bytes.iter().any(|byte| matches!(byte, 0xc0 | 0xed)) {
        return String::from_utf8(bytes).ok();
    }
    let mut text = String::with_capacity(bytes.len());
    let mut plain = 0;
    let mut at = 0;
    while at < bytes.len() {
        let (character, length) = match &bytes[at..] {
            // ftfy's expression for an incomplete sequence at the end accepts a line break there.
            [0xc0, 0x80, ..] | [0xc0, b'\n'] => ('\0', 2),
            [0xed, high @ 0xa0..=0xaf, a @ 0x80..=0xbf, 0xed, low @ 0xb0..=0xbf, b @ 0x80..=0xbf, ..] => {
                let bits = |byte: u8, mask: u8, shift: u32| u32::from(byte & mask) << shift;
                let number =
                    bits(*high, 0x0f, 16) + bits(*a, 0x3f, 10) + bits(*low, 0x0f, 6) + bits(*b, 0x3f, 0);
                (char::from_u32(number + 0x1_0000)?, 6)
            }
            _ => {
                at += 1;
                continue;
            }
        };
        text.push_str(str::from_utf8(&bytes[plain..at]).ok()?);
        text.push(character);
        at += length;
        plain = at;
    }
    text.push_str(str::from_utf8(&bytes[plain..]).ok()?);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(b"\xed\xa0\xbd\xed\xb2\xa9!", Some("\u{1f4a9}!"))]
    #[case(b"a\xc0\x80b", Some("a\0b"))]
    #[case(b"\xed\x95\x9c", Some("한"))]
    #[case(b"\xed\xa0\xbd", None)]
    #[case(b"\xed\xb2\xa9\xed\xa0\xbd", None)]
    #[case(b"\xc0", None)]
    fn variants_are_decoded(#[case] bytes: &[u8], #[case] expected: Option<&str>) {
        assert_eq!(decode(bytes.to_vec()).as_deref(), expected);
    }

    #[test]
    fn spaces_and_lost_bytes_are_restored() {
        assert_eq!(
            restore_byte_a0(b"\xc3 la, \xc3 s , \xc3 quela".to_vec()),
            b"\xc3\xa0 la, \xc3\xa0s , \xc3\xa0quela"
        );
        assert_eq!(
            replace_lossy_sequences(b"\xe2\x80\x1a \x1a \xc3?".to_vec()),
            "\u{fffd} \u{fffd} \u{fffd}".as_bytes()
        );
    }
}
