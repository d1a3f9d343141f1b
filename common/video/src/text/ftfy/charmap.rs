//! The single-byte encodings with which UTF-8 is decoded by mistake.

use std::{collections::HashMap, sync::LazyLock};

/// What is known of texts in an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// Every byte has a character.
    Exact,
    /// As `Exact`; but the byte of a dash is followed by a space too often to read the space as A0.
    MacRoman,
    /// Programs decode bytes without a character as Latin-1, or as U+FFFD, for which 1A stands here.
    Windows,
}

/// A single-byte encoding.
#[derive(Debug)]
pub(super) struct Charmap {
    rules: Rules,
    /// Bytes of the characters outside ASCII.
    bytes: HashMap<char, u8>,
}

impl Charmap {
    fn new(rules: Rules, high: &str) -> Self {
        Self { rules, bytes: high.chars().zip(0x80..=0xff).collect() }
    }

    /// The bytes that this encoding decodes to `text`.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|character| self.byte(character)).collect()
    }

    fn byte(&self, character: char) -> Option<u8> {
        match (character, self.rules) {
            ('\u{1a}', Rules::Windows) => None,
            ('\u{fffd}', Rules::Windows) => Some(0x1a),
            ('\0'..='\u{7f}', _) => u8::try_from(character).ok(),
            _ => self.bytes.get(&character).copied(),
        }
    }

    /// Whether a space may stand for the byte A0.
    pub(super) fn spaces_may_be_a0(&self) -> bool {
        self.rules != Rules::MacRoman
    }

    /// Whether the byte 1A stands for a lost byte.
    pub(super) fn marks_lost_bytes(&self) -> bool {
        self.rules == Rules::Windows
    }
}

/// Every encoding, in the order in which they are tried.
pub(super) static ALL: LazyLock<Vec<Charmap>> = LazyLock::new(|| {
    let latin1: String = ('\u{80}'..='\u{ff}').collect();
    let others = HIGH.iter().map(|(rules, high)| Charmap::new(*rules, high));
    std::iter::once(Charmap::new(Rules::Exact, &latin1)).chain(others).collect()
});

/// Characters of the bytes 80 to 9F in Windows-1252; bytes without a character are themselves.
const WINDOWS_C1: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The Windows-1252 character of a C1 control character's byte.
pub(super) fn c1_as_windows(character: char) -> Option<char> {
    u32::from(character).checked_sub(0x80).and_then(|at| WINDOWS_C1.get(at as usize)).copied()
}

/// A Latin-1 character read as Windows-1252; none for other characters and for bytes without a character.
pub(super) fn latin1_as_windows(character: char) -> Option<char> {
    match c1_as_windows(character) {
        Some(windows) => (windows != character).then_some(windows),
        None => (character <= '\u{ff}').then_some(character),
    }
}

/// Characters of the bytes 80 to FF.
const HIGH: [(Rules, &str); 9] = [
    // Windows-1252
    (
        Rules::Windows,
        "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼\
     ½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    ),
    // Windows-1251
    (
        Rules::Windows,
        "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИЙКЛМНОПР\
     СТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя",
    ),
    // Windows-1250
    (
        Rules::Windows,
        "€\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ\
     ˝ľżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
    ),
    // Windows-1253
    (
        Rules::Windows,
        "€\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\u{9e}\
     \u{9f}\u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξο\
     πρςστυφχψωϊϋόύώÿ",
    ),
    // Windows-1254
    (
        Rules::Windows,
        "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²\
     ³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ",
    ),
    // Windows-1257
    (
        Rules::Windows,
        "€\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\u{a0}¡¢£¤¥¦§Ø\
     ©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙",
    ),
    // ISO 8859-2
    (
        Rules::Exact,
        "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\
     \u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\
     \u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôő\
     ö÷řůúűüýţ˙",
    ),
    // Mac Roman
    (
        Rules::MacRoman,
        "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄\
     €‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
    ),
    // code page 437
    (
        Rules::Exact,
        "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
     αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        for (charmap, (_, high)) in ALL.iter().skip(1).zip(HIGH) {
            assert_eq!((high.chars().count(), charmap.bytes.len()), (128, 128), "{high}");
        }
        assert_eq!(ALL[1].encode("€é\u{81}\u{fffd}"), Some(vec![0x80, 0xe9, 0x81, 0x1a]));
        assert_eq!(ALL[0].encode("€"), None);
    }
}
