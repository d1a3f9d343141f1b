//! Added tokens of a vocabulary, and the search for them in text.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::AddedToken;

use super::TokenizerError;

/// Added tokens, which are recognised in text before it is split.
pub(crate) struct AddedTokens {
    tokens: BTreeMap<u32, AddedToken>,
    ids: Vec<u32>,
    search: AhoCorasick,
}

impl AddedTokens {
    pub(super) fn new(tokens: BTreeMap<u32, AddedToken>) -> Result<Self, TokenizerError> {
        let kept = || tokens.iter().filter(|(_, token)| !token.content.is_empty());
        let ids: Vec<u32> = kept().map(|(id, _)| *id).collect();
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(kept().map(|(_, token)| token.content.as_str()))
            .map_err(TokenizerError::invalid)?;
        Ok(Self { tokens, ids, search })
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.tokens.contains_key(&id)
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.tokens.get(&id).is_some_and(|token| token.special)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.tokens.iter().map(|(id, token)| (*id, token.content.as_str()))
    }

    /// All occurrences of added tokens in `text`, with their ids.
    pub(crate) fn look_alikes(&self, text: &str) -> Vec<(Range<usize>, u32)> {
        self.search
            .find_iter(text)
            .map(|found| (found.range(), self.ids[found.pattern().as_usize()]))
            .collect()
    }

    /// Added tokens in `text` outside the `literal` ranges (sorted, disjoint), including the white space that they absorb.
    pub(super) fn find(&self, text: &str, literal: &[Range<usize>]) -> Vec<(Range<usize>, u32)> {
        let mut found = Vec::new();
        let mut from = 0;
        for end in literal.iter().map(|range| range.start).chain([text.len()]) {
            for hit in self.search.find_iter(&text[from..end]) {
                let id = self.ids[hit.pattern().as_usize()];
                let Some(token) = self.tokens.get(&id) else { continue };
                let mut range = from + hit.start()..from + hit.end();
                if token.single_word && touches_word(text, &range) {
                    continue;
                }
                if token.lstrip {
                    range.start = from + text[from..range.start].trim_end().len();
                }
                if token.rstrip {
                    range.end = end - text[range.end..end].trim_start().len();
                }
                found.push((range, id));
            }
            from = literal.iter().find(|range| range.start == end).map_or(end, |range| range.end);
        }
        // White space absorbed by an rstrip token is not absorbed again by a following lstrip token.
        for index in 1..found.len() {
            let before = found[index - 1].0.end;
            found[index].0.start = found[index].0.start.max(before);
        }
        found
    }
}

fn touches_word(text: &str, range: &Range<usize>) -> bool {
    let word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    word(text[..range.start].chars().next_back()) || word(text[range.end..].chars().next())
}
