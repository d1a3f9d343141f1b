//! `demo.json` of a demonstration checkpoint: its defaults and the words it was trained on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use videosdgx_tensor::{CheckpointError, read_json};

/// `demo.json` of a demonstration checkpoint.
#[derive(Debug, Clone, Deserialize)]
pub struct Demonstration {
    /// Name of the checkpoint, shown in every job.
    pub name: String,
    /// Values of fields that a request leaves out.
    pub defaults: DemonstrationDefaults,
    /// The words it was trained on.
    pub vocabulary: Vocabulary,
}

impl Demonstration {
    /// Reads `demo.json` of a checkpoint folder; `None` if there is none.
    ///
    /// # Errors
    /// Names the file when it cannot be parsed.
    pub fn read(folder: &Path) -> Result<Option<Self>, CheckpointError> {
        let path = folder.join("demo.json");
        path.is_file().then(|| read_json(&path)).transpose()
    }
}

/// Defaults of a demonstration checkpoint.
#[derive(Debug, Clone, Deserialize)]
pub struct DemonstrationDefaults {
    /// An example prompt.
    pub prompt: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Number of frames.
    pub frames: u32,
    /// Frames per second.
    pub fps: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Scale of classifier-free guidance.
    pub guidance: f64,
    /// Tokens that a prompt is padded to, for models whose encoders see the padding; the published models' by default.
    #[serde(default)]
    pub max_prompt_tokens: Option<u32>,
}

/// The words a demonstration checkpoint was trained on.
#[derive(Debug, Clone, Deserialize)]
pub struct Vocabulary {
    words: Vec<String>,
    #[serde(default)]
    spellings: BTreeMap<String, String>,
}

impl Vocabulary {
    /// All words, in lower case.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Words of `prompt` outside the vocabulary, in order, each once.
    #[must_use]
    pub fn unknown(&self, prompt: &str) -> Vec<String> {
        let mut unknown = Vec::new();
        for word in prompt.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty())
        {
            let lower = word.to_lowercase();
            let known = self.words.contains(&lower) || self.spellings.contains_key(&lower);
            if !known && !unknown.contains(&lower) {
                unknown.push(lower);
            }
        }
        unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_outside_the_vocabulary_are_found_once_and_in_order() {
        let vocabulary: Vocabulary =
            serde_json::from_str(r#"{"words": ["a", "red", "circle"], "spellings": {"crimson": "red"}}"#)
                .unwrap();
        let unknown = vocabulary.unknown("A crimson Elephant, a red circle: elephant's ELEPHANT!");
        assert_eq!(unknown, ["elephant", "elephant's"]);
    }
}
