//! A rendered conversation, with the parts that are not to be parsed for special tokens.

use std::ops::Range;

use crate::TokenizerError;

/// The rendered text of a conversation. Text from messages that equals a special token is marked as ordinary text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RenderedPrompt {
    text: String,
    literal: Vec<Range<usize>>,
}

/// Markers around such text: Unicode noncharacters, which do not occur in regular text.
pub(super) const OPEN: char = '\u{FDD0}';
pub(super) const CLOSE: char = '\u{FDD1}';
/// Marks the place at which the model continues a message.
pub(super) const END: char = '\u{FDD2}';

impl RenderedPrompt {
    /// A text in which all special tokens are recognised.
    #[must_use]
    pub fn trusted(text: String) -> Self {
        Self { text, literal: Vec::new() }
    }

    /// Removes the markers from a template's output. The template may have truncated the text between them: an unpaired marker is
    /// dropped.
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
        // Text after an unpaired opening marker is not trusted.
        literal.extend(open.map(|start| start..text.len()));
        literal.retain(|range: &Range<usize>| !range.is_empty());
        Self { text, literal }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Byte ranges of the text without special tokens; sorted and disjoint.
    pub(crate) fn literal(&self) -> &[Range<usize>] {
        &self.literal
    }
}

/// Replaces the single placeholder token of each image by the number of tokens of the image (`counts`, in order). Returns the tokens
/// and the positions of the first placeholders.
///
/// # Errors
/// [`TokenizerError::Encode`] when the numbers of placeholders and images differ.
pub fn expand_images(
    tokens: &[u32],
    placeholder: u32,
    counts: &[usize],
) -> Result<(Vec<u32>, Vec<usize>), TokenizerError> {
    let found = tokens.iter().filter(|token| **token == placeholder).count();
    if found != counts.len() {
        return Err(TokenizerError::encode(format!(
            "the template produced {found} placeholders for {} images",
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
