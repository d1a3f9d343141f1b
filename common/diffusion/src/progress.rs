//! Progress and results of a generation.

use videosdgx_sound::Sound;

/// Progress of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Prompt and picture are about to be encoded.
    Encoding,
    /// `done` of `steps` denoising steps are done.
    Denoising {
        /// Steps done.
        done: u32,
        /// Steps in all.
        steps: u32,
    },
    /// `done` of `frames` frames are decoded.
    Decoding {
        /// Frames decoded.
        done: u32,
        /// Frames in all.
        frames: u32,
    },
}

impl Progress {
    /// Progress of a part that begins after `before` of `total` denoising steps; other progress as it is.
    #[must_use]
    pub fn part_of(self, before: u32, total: u32) -> Self {
        match self {
            Self::Denoising { done, .. } => Self::Denoising { done: before + done, steps: total },
            other => other,
        }
    }
}

/// Notices of a generation that did not fail, and its sound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Words of the prompts that are not in the vocabulary, each once, in order.
    pub unknown_words: Vec<String>,
    /// Whether a prompt was longer than the encoder's limit and was truncated.
    pub truncated: bool,
    /// Whether denoising was skipped because its result was on the disk.
    pub resumed: bool,
    /// The sound, of a generation with [`audio`](crate::Generation::audio).
    pub sound: Option<Sound>,
}

impl Summary {
    /// Adds what encoding one prompt reported.
    pub fn add_prompt(&mut self, unknown_words: Vec<String>, truncated: bool) {
        for word in unknown_words {
            if !self.unknown_words.contains(&word) {
                self.unknown_words.push(word);
            }
        }
        self.truncated |= truncated;
    }
}
