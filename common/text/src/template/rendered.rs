//! A rendered conversation, and which parts of it users wrote.

use std::ops::Range;

use crate::TokenizerError;

/// The text of a conversation as the model reads it. Users' look-alikes of special tokens are marked as ordinary text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RenderedPrompt {
    text: String,
    literal: Vec<Range<usize>>,
}

/// Brackets of what a user wrote; noncharacters, which no text holds that is meant to be read.
pub(super) const OPEN: char = '\u{FDD0}';
pub(super) const CLOSE: char = '\u{FDD1}';

impl RenderedPrompt {
    /// A text without users' parts: all special tokens in it count.
    #[must_use]
    pub fn trusted(text: String) -> Self {
        Self { text, literal: Vec::new() }
    }

    /// Takes the brackets out of a template's output. A template may have cut the text between them: a lone bracket is dropped.
    pub(super) fn from_marked(marked: &str) -> Self {
        let mut text = String::with_capacity(marked.len());
        let mut literal = Vec::new();
        let mut open = None;
        for character in marked.chars() {
            match character {
                OPEN => open = Some(text.len()),
                CLOSE => literal.extend(open.take().map(|start| start..text.len())),
                other => text.push(other),
            }
        }
        // What followed a lone opening bracket is not trusted.
        literal.extend(open.map(|start| start..text.len()));
        literal.retain(|range: &Range<usize>| !range.is_empty());
        Self { text, literal }
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Byte ranges of the text that are never special tokens; sorted, disjoint.
    pub(crate) fn literal(&self) -> &[Range<usize>] {
        &self.literal
    }
}

/// Replaces each picture's single placeholder token by as many as the picture has (`counts`, in order), and gives the positions of
/// their first ones.
///
/// # Errors
/// [`TokenizerError::Encode`] when there are not as many placeholders as pictures.
pub fn expand_images(
    tokens: &[u32],
    placeholder: u32,
    counts: &[usize],
) -> Result<(Vec<u32>, Vec<usize>), TokenizerError> {
    let found = tokens.iter().filter(|token| **token == placeholder).count();
    if found != counts.len() {
        return Err(TokenizerError::Encode(format!(
            "the template wrote {found} placeholders for {} pictures",
            counts.len()
        )));
    }
    let mut expanded = Vec::with_capacity(tokens.len() + counts.iter().sum::<usize>());
    let mut positions = Vec::with_capacity(counts.len());
    let mut counts = counts.iter();
    for token in tokens {
        if *token == placeholder {
            positions.push(expanded.len());
            expanded.extend(std::iter::repeat_n(placeholder, counts.next().copied().unwrap_or(0)));
        } else {
            expanded.push(*token);
        }
    }
    Ok((expanded, positions))
}
