//! Repair of text that was decoded or formatted wrongly: `fix_text` of ftfy 6.3.1 with its default settings (Robyn Speer,
//! <https://github.com/rspeer/python-ftfy>, Apache-2.0), step by step, so that prompts become what they become in
//! diffusers. The tables of characters are ftfy's.

mod badness;
mod characters;
mod charmap;
mod detector;
mod utf8;

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

use super::html;
use charmap::Charmap;

pub(super) use characters::without_c1;

/// Repairs each line by itself.
pub(super) fn fix_text(text: &str) -> String {
    let mut unescape = true;
    text.split_inclusive('\n')
        .map(|line| {
            // With a tag, this line and those after it are meant to be HTML.
            unescape &= !line.contains('<');
            fix_line(line, unescape)
        })
        .collect()
}

/// Applies every step until nothing changes any more.
fn fix_line(line: &str, unescape: bool) -> String {
    let mut text = line.to_owned();
    loop {
        let unescaped =
            if unescape { html::unescape_unambiguous(&text) } else { Cow::Borrowed(text.as_str()) };
        let fixed: String = characters::plain(&fix_encoding(&unescaped)).nfc().collect();
        if fixed == text {
            return text;
        }
        text = fixed;
    }
}

/// Decodes text again until it no longer looks as if it had been decoded wrongly.
fn fix_encoding(text: &str) -> Cow<'_, str> {
    let mut fixed = Cow::Borrowed(text);
    while let Some(better) = fix_encoding_once(&fixed).filter(|better| *better != fixed) {
        fixed = Cow::Owned(better);
    }
    fixed
}

fn fix_encoding_once(text: &str) -> Option<String> {
    if text.is_ascii() || !badness::is_bad(text) {
        return None;
    }
    let whole = charmap::ALL.iter().find_map(|charmap| utf8_decoded_as(charmap, text));
    if whole.is_some() {
        return whole;
    }
    // Parts of the text that were decoded wrongly, between others that were not.
    let parts = detector::replace(text, |part| {
        let broken = part.len() < text.len() && badness::is_bad(part);
        if broken { fix_encoding(part) } else { Cow::Borrowed(part) }
    });
    if parts != text {
        return Some(parts);
    }
    // Windows-1252 that was decoded as Latin-1.
    if let Some(windows) = text.chars().map(charmap::latin1_as_windows).collect::<Option<String>>()
        && windows != text
    {
        return Some(windows);
    }
    Some(text.chars().map(characters::without_c1).collect())
}

/// The text, if it is UTF-8 that was decoded with `charmap`.
fn utf8_decoded_as(charmap: &Charmap, text: &str) -> Option<String> {
    let mut bytes = charmap.encode(text)?;
    if charmap.spaces_may_be_a0() {
        bytes = utf8::restore_byte_a0(bytes);
    }
    if charmap.marks_lost_bytes() {
        bytes = utf8::replace_lossy_sequences(bytes);
    }
    utf8::decode(bytes)
}
