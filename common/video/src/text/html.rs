//! Character references of HTML, decoded as Python and ftfy decode them.

use std::{borrow::Cow, sync::LazyLock};

use htmlize::ENTITIES;
use regex::{Captures, Regex};

use super::ftfy;

/// Python's `html.unescape`: also decodes names without a semicolon and names followed by other letters.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\u{c} <&#;]{1,32};?)")
            .expect("the expression is valid")
    });
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    REFERENCE.replace_all(text, |found: &Captures<'_>| match found[1].strip_prefix('#') {
        Some(number) => numbered(number.trim_end_matches(';')),
        None => named_at_start(&found[0]),
    })
}

/// ftfy's `unescape_html`: only complete references, and names in capital letters as in `P&EACUTE;REZ`.
pub(super) fn unescape_unambiguous(text: &str) -> Cow<'_, str> {
    static REFERENCE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("&#?[0-9A-Za-z]{1,24};").expect("the expression is valid"));
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    REFERENCE.replace_all(text, |found: &Captures<'_>| {
        let reference = &found[0];
        if let Some(characters) = named(reference) {
            characters.to_owned()
        } else if reference.starts_with("&#") {
            Some(unescape(reference))
                .filter(|decoded| !decoded.contains(';'))
                .as_deref()
                .unwrap_or(reference)
                .to_owned()
        } else {
            named_in_capitals(reference).unwrap_or_else(|| reference.to_owned())
        }
    })
}

/// The characters of a reference such as `&amp;`.
fn named(reference: &str) -> Option<&'static str> {
    ENTITIES.get(reference.as_bytes()).and_then(|characters| str::from_utf8(characters).ok())
}

/// Decodes the longest name at the start of `reference`.
fn named_at_start(reference: &str) -> String {
    let ends = reference.char_indices().map(|(at, character)| at + character.len_utf8());
    let found = ends.rev().find_map(|end| named(&reference[..end]).map(|characters| (characters, end)));
    found.map_or_else(
        || reference.to_owned(),
        |(characters, end)| format!("{characters}{}", &reference[end..]),
    )
}

/// The capital form of a reference whose name is in capital letters instead of small ones.
fn named_in_capitals(reference: &str) -> Option<String> {
    let small = reference.to_ascii_lowercase();
    let characters = named(&small).filter(|_| reference == small.to_ascii_uppercase())?;
    // Not if the capital letters begin with a name of their own.
    (unescape(reference) == reference).then(|| characters.to_uppercase())
}

/// The character of a reference such as `&#233;` or `&#xE9;`, or nothing for numbers that stand for no character.
fn numbered(number: &str) -> String {
    let parsed = match number.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
        None => number.parse(),
    };
    let number = parsed.unwrap_or(u32::MAX);
    let character = match number {
        0x80..=0x9f => char::from_u32(number).map(ftfy::without_c1),
        0 | 0xd800..=0xdfff | 0x11_0000.. => Some('\u{fffd}'),
        0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        number if number & 0xfffe == 0xfffe => None,
        number => char::from_u32(number),
    };
    character.map_or_else(String::new, String::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// The right-hand sides are results of Python's `html.unescape`.
    #[rstest]
    #[case("&copy 2024 &notit; &#x1F600; &amp;amp;", "© 2024 ¬it; 😀 &amp;")]
    #[case(
        "&#0;&#1;&#11;&#128;&#129;&#xD800;&#x110000;&#99999999999;&#xfffe;&#13;",
        "\u{fffd}€\u{81}\u{fffd}\u{fffd}\u{fffd}\r"
    )]
    #[case("&; &# &#x &#xg; & &nothing; &é;", "&; &# &#x &#xg; & ¬hing; &é;")]
    #[case("&#38&#38;&AMP&ampamp;", "&&&&amp;")]
    fn references_are_decoded_as_in_python(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(unescape(text), expected);
    }

    /// The right-hand sides are results of ftfy's `unescape_html`.
    #[rstest]
    #[case("this&not that &lt;tag&gt;", "this&not that <tag>")]
    #[case("BUNDESSTRA&SZLIG;E &NTILDE; &nTILDE; &GTDOT;", "BUNDESSTRASSE Ñ &nTILDE; &GTDOT;")]
    #[case("&#59; &#xE9; &#xZZ; &#1;", "&#59; é &#xZZ; ")]
    fn only_unambiguous_references_are_decoded(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(unescape_unambiguous(text), expected);
    }
}
