//! Prompt cleaning as in diffusers' Wan pipelines: ftfy's `fix_text`, HTML character references decoded twice, runs of
//! white space replaced by one space.

use super::{ftfy::fix_text, html::unescape};

/// The cleaned prompt, ready for the tokenizer.
///
/// ```
/// assert_eq!(videosdgx_video::text::clean_prompt("caf\u{c3}\u{a9}  &amp;amp; tea"), "caf\u{e9} & tea");
/// ```
pub fn clean_prompt(prompt: &str) -> String {
    let fixed = fix_text(prompt);
    let once = unescape(&fixed);
    let twice = unescape(&once);
    let words: Vec<&str> = twice.split(is_space).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// White space as Python's `\s` sees it.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
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
