//! The plain form of characters that formatting or copying produced.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

use super::charmap;

/// Replaces C1 control characters, ligatures, full-width letters, curly quotes and line breaks; removes terminal escape
/// sequences and control characters.
pub(super) fn plain(text: &str) -> String {
    /// `ESC [ … letter`
    static TERMINAL_ESCAPE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\x1b\[[\d;]*[a-zA-Z]").expect("the expression is valid"));
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match ligature(without_c1(character)) {
            Some(letters) => plain.extend(letters.chars().map(uncurled)),
            None => push_narrow(&mut plain, without_c1(character)),
        }
    }
    let lines = plain.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}'], "\n");
    let text = TERMINAL_ESCAPE.replace_all(&lines, "");
    let text = match text {
        Cow::Borrowed(_) => lines,
        Cow::Owned(text) => text,
    };
    if text.contains(is_control) { text.replace(is_control, "") } else { text }
}

/// A C1 control character stands for the Windows-1252 character of its byte.
pub(in crate::text) fn without_c1(character: char) -> char {
    charmap::c1_as_windows(character).unwrap_or(character)
}

fn ligature(character: char) -> Option<&'static str> {
    Some(match character {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "ʼn",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// Appends the form of standard width.
fn push_narrow(text: &mut String, character: char) {
    if matches!(character, '\u{3000}' | '\u{ff01}'..='\u{ffef}') {
        text.extend(std::iter::once(character).nfkc().map(uncurled));
    } else {
        text.push(uncurled(character));
    }
}

fn uncurled(character: char) -> char {
    match character {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        other => other,
    }
}

/// Control characters without effect on the text: ASCII's except white space, deprecated Arabic ones, byte order marks,
/// annotations.
fn is_control(character: char) -> bool {
    matches!(character,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}')
}
