//! A checkpoint folder as its configuration files and headers describe it: no weights are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use videosdgx_model::CheckpointLocation;
use videosdgx_tensor::{Checkpoint, CheckpointError, folder_fingerprint, read_json};

use crate::Demonstration;

/// The checkpoint folders, in diffusers' layout, that a model family reads.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointLayout {
    /// Name of the model family, for error messages.
    pub family: &'static str,
    /// Accepted `_class_name`s of `model_index.json`, each with its components: subfolders with weights.
    pub classes: &'static [(&'static str, &'static [&'static str])],
    /// Other files that must exist.
    pub files: &'static [&'static str],
}

/// A checkpoint folder whose configuration parses and whose weights' headers are valid.
#[derive(Debug, Clone)]
pub struct CheckpointFolder {
    /// Path of the folder.
    pub path: PathBuf,
    /// Name of the checkpoint, shown in every job: `demo.json`'s, else the one it was found by.
    pub name: String,
    /// Identifies its files, see [`folder_fingerprint`].
    pub fingerprint: String,
    /// Pipeline class, for example `WanPipeline`.
    pub architecture: String,
    /// `demo.json`, of a demonstration checkpoint.
    pub demonstration: Option<Demonstration>,
    /// Elements of all tensors of each component.
    parameters: BTreeMap<&'static str, u64>,
}

#[derive(Deserialize)]
struct ModelIndex {
    #[serde(rename = "_class_name")]
    class_name: String,
}

impl CheckpointFolder {
    /// Reads configurations and headers; a few milliseconds for the largest checkpoints.
    ///
    /// # Errors
    /// Names the file that is missing or broken.
    pub fn open(location: &CheckpointLocation, layout: &CheckpointLayout) -> Result<Self, CheckpointError> {
        let path = &location.path;
        let index_path = path.join("model_index.json");
        let ModelIndex { class_name } = read_json(&index_path)?;
        let Some((_, components)) = layout.classes.iter().find(|(class, _)| *class == class_name) else {
            let accepted: Vec<&str> = layout.classes.iter().map(|(class, _)| *class).collect();
            let reason = format!(
                "{class_name} is not a {} pipeline; {} are supported",
                layout.family,
                accepted.join(" and ")
            );
            return Err(CheckpointError::invalid(index_path, reason));
        };
        for file in layout.files {
            let file = path.join(file);
            if !file.is_file() {
                return Err(CheckpointError::Missing { path: file });
            }
        }
        let demonstration = Demonstration::read(path)?;
        let parameters = components.iter().map(|name| Ok((*name, parameters(&path.join(name))?)));
        Ok(Self {
            fingerprint: folder_fingerprint(path)?,
            path: path.to_owned(),
            name: demonstration
                .as_ref()
                .map_or_else(|| location.name.clone(), |demonstration| demonstration.name.clone()),
            architecture: class_name,
            demonstration,
            parameters: parameters.collect::<Result<_, CheckpointError>>()?,
        })
    }

    /// Parameters of one component; 0 when this pipeline class does not have it.
    #[must_use]
    pub fn parameters_of(&self, component: &str) -> u64 {
        self.parameters.get(component).copied().unwrap_or(0)
    }

    /// Whether this pipeline class has a component.
    #[must_use]
    pub fn has(&self, component: &str) -> bool {
        self.parameters.contains_key(component)
    }

    /// Parameters of the whole pipeline.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters.values().sum()
    }

    /// `config.json` of a component.
    ///
    /// # Errors
    /// Names the file when it is missing or does not fit `T`.
    pub fn config<T: DeserializeOwned>(&self, component: &str) -> Result<T, CheckpointError> {
        read_json(&self.path.join(component).join("config.json"))
    }
}

fn parameters(folder: &Path) -> Result<u64, CheckpointError> {
    let checkpoint = Checkpoint::open(folder)?;
    let elements = |tensor: &str| {
        let shape = checkpoint
            .entry(tensor)
            .map(|entry| entry.shape.iter().map(|side| side.unsigned_abs()).product());
        shape.unwrap_or(0_u64)
    };
    Ok(checkpoint.names().map(elements).sum())
}
