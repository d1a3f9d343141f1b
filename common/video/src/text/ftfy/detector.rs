//! Finds the parts of a text that look like UTF-8 decoded with a single-byte encoding.

use std::{borrow::Cow, collections::HashSet, sync::LazyLock};

/// Characters that lead bytes of sequences of 2, 3 and 4 bytes become in some encoding.
const LEADS: [&str; 3] = [
    "ÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßĀĂĆČĎĐĒĖĘĚĞĢĪİĶĹĻŁŃŅŇŌŐŘŚŞŠŢŪŮŰŲŹŻŽΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫάέήίВГ\
     ДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ",
    "àáâãäåæçèéêëìíîïāăąćčďēėęěģīįķĺļŕźΰαβγδεζηθικλμνξοабвгдежзийклмноп",
    "ðóđğšπσру",
];
/// Characters that continuation bytes become in some encoding, beside U+0080 to U+00BF.
const CONTINUATIONS: &str =
    "ÆØæøĄąĽľŁłŒœŖŗŚśŞşŠšŤťŸŹźŻżŽžƒˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁЂЃЄЅІЇЈЉЊЋЌЎЏёђѓєѕіїјљњћќўџҐґ†‡‰‹›€№™";
/// Further ones, which are frequent in good text; the space stands for the byte A0.
const FREQUENT_CONTINUATIONS: &str = " –—―‘’‚“”„•…";

struct Clues {
    leads: [HashSet<char>; 3],
    rare: HashSet<char>,
}

static CLUES: LazyLock<Clues> = LazyLock::new(|| Clues {
    leads: LEADS.map(|characters| characters.chars().collect()),
    rare: CONTINUATIONS.chars().collect(),
});

impl Clues {
    fn is_rare_continuation(&self, character: char) -> bool {
        ('\u{80}'..='\u{bf}').contains(&character) || self.rare.contains(&character)
    }

    fn is_continuation(&self, character: char) -> bool {
        self.is_rare_continuation(character) || FREQUENT_CONTINUATIONS.contains(character)
    }

    /// How many characters at the start of `text` may be one character's UTF-8.
    fn sequence(&self, text: &[(usize, char)]) -> Option<usize> {
        let (_, first) = *text.first()?;
        let length = 2 + self.leads.iter().position(|leads| leads.contains(&first))?;
        let continuations = text.get(1..length)?;
        continuations.iter().all(|(_, character)| self.is_continuation(*character)).then_some(length)
    }
}

/// Replaces each longest part that looks like UTF-8; none begins after a character that is rare except in such parts.
pub(super) fn replace<'a>(text: &'a str, mut replacement: impl FnMut(&'a str) -> Cow<'a, str>) -> String {
    let clues = &*CLUES;
    let characters: Vec<(usize, char)> = text.char_indices().collect();
    let mut replaced = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let begin = at;
        if begin == 0 || !clues.is_rare_continuation(characters[begin - 1].1) {
            while let Some(length) = clues.sequence(&characters[at..]) {
                at += length;
            }
        }
        if at == begin {
            replaced.push(characters[at].1);
            at += 1;
        } else {
            let end = characters.get(at).map_or(text.len(), |(end, _)| *end);
            replaced.push_str(&replacement(&text[characters[begin].0..end]));
        }
    }
    replaced
}
