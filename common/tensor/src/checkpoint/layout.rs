//! Finds the files of a checkpoint folder.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::read_json;
use crate::CheckpointError;

/// File names in published checkpoints: diffusers', then transformers'.
const STEMS: [&str; 2] = ["diffusion_pytorch_model.safetensors", "model.safetensors"];
const INDEX_SUFFIX: &str = ".index.json";

/// The files to open and, for a sharded checkpoint, the content of the index.
pub(super) struct Layout {
    pub(super) files: Vec<PathBuf>,
    /// Path of the index, and the file of each tensor.
    pub(super) index: Option<(PathBuf, HashMap<String, PathBuf>)>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

/// Finds the files of `folder`: the published names first (an index before a single file), then the only safetensors
/// file, then the only GGUF file.
pub(super) fn find(folder: &Path) -> Result<Layout, CheckpointError> {
    if !folder.is_dir() {
        return Err(CheckpointError::Missing { path: folder.to_owned() });
    }
    for stem in STEMS {
        let index = folder.join(format!("{stem}{INDEX_SUFFIX}"));
        if index.is_file() {
            return sharded(folder, index);
        }
        let whole = folder.join(stem);
        if whole.is_file() {
            return Ok(Layout { files: vec![whole], index: None });
        }
    }
    let listing = std::fs::read_dir(folder).map_err(|error| CheckpointError::io(folder, error))?;
    let files: Vec<PathBuf> = listing.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    let only = |wanted: fn(&Path) -> bool, what: &str| {
        let mut found = files.iter().filter(|path| wanted(path));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(CheckpointError::invalid(folder, what)),
            (only, _) => Ok(only.cloned()),
        }
    };
    let is_safetensors = |path: &Path| path.to_str().is_some_and(|name| name.ends_with(".safetensors"));
    let whole = match only(is_safetensors, "several safetensors files, none with a published name")? {
        Some(file) => Some(file),
        None => only(is_gguf, "several GGUF files; give the path of one of them")?,
    };
    match whole {
        Some(file) => Ok(Layout { files: vec![file], index: None }),
        None => Err(CheckpointError::Missing { path: folder.join(STEMS[1]) }),
    }
}

/// Whether the file name ends in `.gguf`.
pub(super) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

fn sharded(folder: &Path, index: PathBuf) -> Result<Layout, CheckpointError> {
    let Index { weight_map } = read_json(&index)?;
    let mut files = BTreeSet::new();
    let mut names = HashMap::with_capacity(weight_map.len());
    for (tensor, file) in weight_map {
        let mut parts = Path::new(&file).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || !file.ends_with(".safetensors") {
            return Err(CheckpointError::invalid(
                &index,
                format!("{file:?} is not a safetensors file of this folder"),
            ));
        }
        let path = folder.join(file);
        files.insert(path.clone());
        names.insert(tensor, path);
    }
    if files.is_empty() {
        return Err(CheckpointError::invalid(&index, "lists no tensors"));
    }
    Ok(Layout { files: files.into_iter().collect(), index: Some((index, names)) })
}
