//! Prompt cleaning as in diffusers' Wan pipelines: the main repairs of ftfy's `fix_text`, HTML entities decoded twice,
//! runs of white space replaced by one space.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// The cleaned prompt, ready for the tokenizer.
///
/// ```
/// assert_eq!(videosdgx_video::text::clean_prompt("caf\u{c3}\u{a9}  &amp;amp; tea"), "caf\u{e9} & tea");
/// ```
pub fn clean_prompt(prompt: &str) -> String {
    let fixed = fix_text(prompt);
    let once = htmlize::unescape(fixed.as_str());
    let twice = htmlize::unescape(once.as_ref());
    let words: Vec<&str> = twice.split(is_space).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// White space as Python's `\s` sees it.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// Repairs text that was decoded or formatted wrongly: UTF-8 read as Windows-1252, curly quotes, ligatures, full-width
/// letters, control characters (Speer 2019, "ftfy").
fn fix_text(text: &str) -> String {
    // Entities are decoded first, unless there is a tag: then the text is meant to be HTML.
    let text = if text.contains('<') { Cow::Borrowed(text) } else { htmlize::unescape(text) };
    let mut text = without_escapes(&text);
    // Text may have been misread several times in a row; more than four times does not occur in practice.
    for _ in 0..4 {
        match repaired(&text) {
            Some(better) => text = better,
            None => break,
        }
    }
    text.chars().filter(|letter| !is_control(*letter)).flat_map(plain).nfc().collect()
}

/// Removes terminal escape sequences: `ESC [ … letter`.
fn without_escapes(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let tail = &rest[at + 2..];
        let parameters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').len();
        result.push_str(&rest[..at]);
        rest = match tail[parameters..].chars().next() {
            Some(letter) if letter.is_ascii_alphabetic() => &tail[parameters + 1..],
            _ => tail,
        };
    }
    result.push_str(rest);
    result
}

/// The original text, if this is UTF-8 that was decoded as Windows-1252.
fn repaired(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = text.chars().map(windows_1252).collect();
    let better = String::from_utf8(bytes?).ok()?;
    (better.chars().count() < text.chars().count()).then_some(better)
}

/// Characters of the bytes 0x80 to 0x9f in Windows-1252; the five undefined bytes map to themselves.
const HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The byte of a character in Windows-1252.
fn windows_1252(letter: char) -> Option<u8> {
    match u32::from(letter) {
        code @ (0..=0x7f | 0xa0..=0xff) => u8::try_from(code).ok(),
        _ => HIGH.iter().position(|&high| high == letter).and_then(|at| u8::try_from(0x80 + at).ok()),
    }
}

/// Characters without meaning in a prompt: control characters that are not white space, byte order marks, annotations.
fn is_control(letter: char) -> bool {
    matches!(letter,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}')
}

/// The plain form of a character.
fn plain(letter: char) -> impl Iterator<Item = char> {
    let text: Cow<'static, str> = match letter {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => "'".into(),
        '\u{201c}'..='\u{201f}' => "\"".into(),
        // Latin ligatures, full- and half-width forms, the wide space.
        'Ĳ'
        | 'ĳ'
        | 'ŉ'
        | 'Ǳ'..='ǳ'
        | 'Ǆ'..='ǌ'
        | '\u{fb00}'..='\u{fb06}'
        | '\u{3000}'
        | '\u{ff01}'..='\u{ffef}' => std::iter::once(letter).nfkc().collect::<String>().into(),
        // A C1 control character stands for the Windows-1252 character of the same byte.
        '\u{80}'..='\u{9f}' => HIGH[letter as usize - 0x80].to_string().into(),
        other => other.to_string().into(),
    };
    text.chars().collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// The right-hand sides are results of ftfy 6.3 and the reference's `prompt_clean`.
    #[rstest]
    #[case("a  red\tcircle\n moving ", "a red circle moving")]
    #[case("fish &amp;amp; chips &lt;b&gt; &eacute;t&eacute; &#39;x&#39;", "fish & chips <b> été 'x'")]
    #[case("â€œIâ€™m schÃ¶nâ€\u{9d}", "\"I'm schön\"")]
    #[case("cafÃƒÂ©", "café")]
    #[case("café, naïve, 日本語, Ünïcödé", "café, naïve, 日本語, Ünïcödé")]
    #[case("ﬁne ﬂag ＡＢＣ１２３", "fine flag ABC123")]
    #[case("“x” ‘y’ and 𝒻", "\"x\" 'y' and 𝒻")]
    #[case("\u{1b}[31mred\u{1b}[0m\u{7} circle\u{feff}", "red circle")]
    #[case("e\u{301}te\u{301}", "été")]
    #[case("a\u{3000}wide\u{a0}space\u{2028}line", "a wide space line")]
    #[case("<b>bold</b> &amp; plain", "<b>bold</b> & plain")]
    #[case("&copy 2024 &notit; &#x1F600;", "© 2024 ¬it; 😀")]
    #[case("", "")]
    fn prompts_are_cleaned(#[case] prompt: &str, #[case] expected: &str) {
        assert_eq!(clean_prompt(prompt), expected);
    }
}
