//! Finds neighbouring characters that are unlikely in good text and frequent in text that was decoded wrongly.

use std::sync::LazyLock;

use regex::Regex;

// Characters by category, as they stand in a class of a regular expression.

/// Frequent in good text too.
const COMMON: &str = "\u{a0}\u{ad}·´–—―…’";
const C1: &str = "\u{80}-\u{9f}";
/// Almost only in text that was decoded wrongly.
const BAD: &str = "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}ªº";
const LAW: &str = "¶§";
const CURRENCY: &str = "¢£¥₧€";
const START: &str = "¡«¿©΄΅‘‚“„•‹\u{f8ff}";
const END: &str = "®»˝”›™";
const NUMERIC: &str = "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№";
/// Letters of which faces are made.
const KAOMOJI: &str = "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°";
const UPPER: &str = "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
const LOWER: &str = "ßà-ñăąāćčďđęěēėģğįīķĺľłļœŕśşšťüźżžґﬁﬂ";
/// Letters at the end of good words too.
const UPPER_COMMON: &str = "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я";
const LOWER_COMMON: &str = "α-ωάέήίΰа-џ";
const BOX: &str = "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓";
/// White space as Python sees it.
const SPACE: &str = r"\s\x1c-\x1f";
/// A character of a word as Python sees it.
const WORD: &str = r"\p{L}\p{N}_";

/// ftfy's expression, alternative by alternative.
fn alternatives() -> Vec<String> {
    let weird = format!("{BOX}{START}{END}{CURRENCY}{NUMERIC}{LAW}");
    let arabic = format!("[ØÙ][{COMMON}{CURRENCY}{BAD}{NUMERIC}{START}ŸŠ®°µ»]");
    vec![
        format!("[{C1}]"),
        format!("[{BAD}{LOWER}{UPPER}{weird}][{BAD}]"),
        format!("[a-zA-Z][{LOWER_COMMON}{UPPER_COMMON}][{BAD}]"),
        format!("[{BAD}][{LOWER}{UPPER}{weird}]"),
        format!("[{LOWER}{LOWER_COMMON}{BOX}{END}{CURRENCY}{NUMERIC}][{UPPER}]"),
        format!("[{BOX}{END}{CURRENCY}{NUMERIC}][{LOWER}]"),
        format!("[{LOWER}{BOX}{END}][{CURRENCY}]"),
        format!("[{SPACE}][{UPPER}][{CURRENCY}]"),
        format!("[{UPPER}{BOX}][{NUMERIC}{LAW}]"),
        format!("[{LOWER}{UPPER}{BOX}{CURRENCY}{END}][{START}][{NUMERIC}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{BOX}{LAW}][{END}][{START}]"),
        format!("[{CURRENCY}{NUMERIC}{BOX}][{START}]"),
        format!("[a-z][{UPPER}][{START}{CURRENCY}]"),
        format!("[{BOX}][{KAOMOJI}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{START}{END}{LAW}][{BOX}]"),
        format!("[{BOX}][{END}]"),
        format!("[{LOWER}{UPPER}][{START}{END}][{WORD}]"),
        // The ligature œ when no unaccented letter follows; degree signs after capital letters.
        "[Œœ][^A-Za-z]".to_owned(),
        format!("[{UPPER}]°"),
        // Sequences of two characters of Windows-1252.
        format!("[ÂÃÎÐ][€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»{START}{END}–—´]"),
        "×[²³]".to_owned(),
        // Arabic words in Windows-1252, and three-byte sequences of South Asian scripts.
        format!("{arabic}{arabic}"),
        "à[²µ¹¼½¾]".to_owned(),
        // Mac Roman.
        "√[±∂†≠®™´≤≥¥µø]".to_owned(),
        "≈[°¢]".to_owned(),
        "‚Ä[ìîïòôúùû†°¢π]".to_owned(),
        "‚[âó][àä°ê]".to_owned(),
        // Windows-1251: U+2000 and following, Latin-1 and Cyrillic letters, Windows-1252 decoded twice.
        "вЂ".to_owned(),
        format!("[ВГРС][{C1}{BAD}{START}{END}{CURRENCY}°µ][ВГРС]"),
        "ГўВЂВ.[A-Za-z ]".to_owned(),
        // Windows-1252: à, á and the no-break space.
        "Ã[\u{a0}¡]".to_owned(),
        format!("[a-z][{SPACE}]?[ÃÂ] "),
        "^[ÃÂ] ".to_owned(),
        // Â before a character that its own encoding ends with.
        format!("[a-z.,?!{END}]Â[ {START}{END}]"),
        // Windows-1253: U+2000 and following, Latin-1 and Greek letters.
        "β€[™\u{a0}Ά\u{ad}®°]".to_owned(),
        format!("[ΒΓΞΟ][{C1}{BAD}{START}{END}{CURRENCY}°][ΒΓΞΟ]"),
        // Windows-1257: U+2000 and following.
        "ā€".to_owned(),
    ]
}

/// Whether part of the text looks as if it had been decoded wrongly.
pub(super) fn is_bad(text: &str) -> bool {
    static BADNESS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(&alternatives().join("|")).expect("the expression is valid"));
    BADNESS.is_match(text)
}
