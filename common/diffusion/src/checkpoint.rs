//! A Wan 2.1 checkpoint folder as its configuration files and headers describe it: no weights are read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use videosdgx_tensor::{Checkpoint, CheckpointError, read_json};

/// What `demo.json` beside a demonstration checkpoint says.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Manifest {
    /// Name that every job carries.
    pub(crate) name: String,
    /// Used when a request names none.
    pub(crate) defaults: ManifestDefaults,
    /// The words it was trained on.
    pub(crate) vocabulary: Vocabulary,
}

/// Defaults of a demonstration checkpoint.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ManifestDefaults {
    /// A prompt to try.
    pub(crate) prompt: String,
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    /// 4k+1.
    pub(crate) frames: u32,
    /// Frames a second.
    pub(crate) fps: u32,
    /// Denoising steps.
    pub(crate) steps: u32,
    /// Classifier-free guidance.
    pub(crate) guidance: f64,
}

/// The words a demonstration checkpoint was trained on.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Vocabulary {
    words: Vec<String>,
    #[serde(default)]
    spellings: BTreeMap<String, String>,
}

impl Vocabulary {
    /// All words.
    #[must_use]
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// Words of `prompt` outside the vocabulary, in order, each once.
    #[must_use]
    pub(crate) fn unknown(&self, prompt: &str) -> Vec<String> {
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

/// A component: one subfolder of weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Component {
    /// Elements of all its tensors.
    pub(crate) parameters: u64,
}

/// A checkpoint folder whose configurations parse and whose headers are sound.
#[derive(Debug, Clone)]
pub(crate) struct CheckpointFolder {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Name that every job carries: the manifest's, else the folder's.
    pub(crate) name: String,
    /// Pipeline class, for example `WanPipeline`.
    pub(crate) architecture: String,
    /// `demo.json`, of a demonstration checkpoint.
    pub(crate) manifest: Option<Manifest>,
    /// The transformer.
    pub(crate) transformer: Component,
    /// The text encoder.
    pub(crate) text_encoder: Component,
    /// The VAE.
    pub(crate) vae: Component,
    /// The image encoder, of image-to-video checkpoints.
    pub(crate) image_encoder: Option<Component>,
    /// Hidden size of the transformer.
    pub(crate) hidden: u64,
    /// Base width of the VAE.
    pub(crate) vae_base: u64,
}

#[derive(Deserialize)]
struct ModelIndex {
    #[serde(rename = "_class_name")]
    class_name: String,
}

#[derive(Deserialize)]
struct TransformerShape {
    num_attention_heads: u64,
    attention_head_dim: u64,
}

#[derive(Deserialize)]
struct VaeShape {
    base_dim: u64,
}

impl CheckpointFolder {
    /// Reads configurations and headers; a few milliseconds for the largest checkpoints.
    ///
    /// # Errors
    /// Names the file that is missing or broken.
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let index_path = path.join("model_index.json");
        let index: ModelIndex = read_json(&index_path)?;
        let takes_image = match index.class_name.as_str() {
            "WanPipeline" => false,
            "WanImageToVideoPipeline" => true,
            other => {
                let reason = format!(
                    "{other} is no Wan 2.1 pipeline; WanPipeline and WanImageToVideoPipeline are served"
                );
                return Err(CheckpointError::invalid(index_path, reason));
            }
        };
        for file in ["tokenizer/tokenizer.json", "scheduler/scheduler_config.json"] {
            let file = path.join(file);
            if !file.is_file() {
                return Err(CheckpointError::Missing { path: file });
            }
        }
        let manifest_path = path.join("demo.json");
        let manifest: Option<Manifest> =
            manifest_path.is_file().then(|| read_json(&manifest_path)).transpose()?;
        let shape: TransformerShape = read_json(&path.join("transformer/config.json"))?;
        let vae_shape: VaeShape = read_json(&path.join("vae/config.json"))?;
        let folder_name =
            path.file_name().map_or_else(|| "wan21".into(), |name| name.to_string_lossy().into_owned());
        Ok(Self {
            path: path.to_owned(),
            name: manifest.as_ref().map_or(folder_name, |manifest| manifest.name.clone()),
            architecture: index.class_name,
            manifest,
            transformer: component(path, "transformer")?,
            text_encoder: component(path, "text_encoder")?,
            vae: component(path, "vae")?,
            image_encoder: takes_image.then(|| component(path, "image_encoder")).transpose()?,
            hidden: shape.num_attention_heads.saturating_mul(shape.attention_head_dim),
            vae_base: vae_shape.base_dim,
        })
    }

    /// Parameters of the whole pipeline.
    #[must_use]
    pub(crate) fn parameters(&self) -> u64 {
        let image_encoder = self.image_encoder.map_or(0, |component| component.parameters);
        self.transformer.parameters + self.text_encoder.parameters + self.vae.parameters + image_encoder
    }
}

fn component(path: &Path, name: &str) -> Result<Component, CheckpointError> {
    let checkpoint = Checkpoint::open(path.join(name))?;
    let elements = |tensor: &str| {
        let shape = checkpoint
            .entry(tensor)
            .map(|entry| entry.shape.iter().map(|side| side.unsigned_abs()).product());
        shape.unwrap_or(0_u64)
    };
    Ok(Component { parameters: checkpoint.names().map(elements).sum() })
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
