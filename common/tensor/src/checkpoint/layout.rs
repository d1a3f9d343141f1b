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

/// Finds the files of `folder`: the published names first (a whole file before an index, which may be left over from an
/// earlier download), then the only index of a variant, the only safetensors file, the only GGUF file.
pub(super) fn find(folder: &Path) -> Result<Layout, CheckpointError> {
    if !folder.is_dir() {
        return Err(CheckpointError::Missing { path: folder.to_owned() });
    }
    for stem in STEMS {
        let whole = folder.join(stem);
        if whole.is_file() {
            return Ok(Layout { files: vec![whole], index: None });
        }
        let index = folder.join(format!("{stem}{INDEX_SUFFIX}"));
        if index.is_file() {
            return sharded(folder, index);
        }
    }
    let listing = std::fs::read_dir(folder).map_err(|error| CheckpointError::io(folder, error))?;
    let mut names: Vec<String> =
        listing.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort_unstable();
    // `model.safetensors.index.fp16.json`, `model.fp16.safetensors.index.json`
    let is_index = |name: &&str| name.contains(".safetensors.index.") && name.ends_with(".json");
    match named(&names, is_index).as_slice() {
        [] => {}
        [only] => return sharded(folder, folder.join(only)),
        several => {
            let reason = format!("holds several indexes, keep one of them: {}", several.join(", "));
            return Err(CheckpointError::invalid(folder, reason));
        }
    }
    match named(&names, |name| name.ends_with(".safetensors")).as_slice() {
        [] => {}
        [first, ..] if is_shard(first) => {
            let reason = format!(
                "holds shards ({first}) and no index: {}{INDEX_SUFFIX} is missing, download it as well",
                STEMS[usize::from(!first.starts_with("diffusion_pytorch_model"))]
            );
            return Err(CheckpointError::invalid(folder, reason));
        }
        [only] => return Ok(Layout { files: vec![folder.join(only)], index: None }),
        several => {
            let reason = format!(
                "holds several safetensors files, none with a published name ({} or {}): {}",
                STEMS[0],
                STEMS[1],
                several.join(", ")
            );
            return Err(CheckpointError::invalid(folder, reason));
        }
    }
    if let Some(file) = videosdgx_gguf::file_in(folder)? {
        return Ok(Layout { files: vec![file], index: None });
    }
    match named(&names, |name| name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".pt"))
        .first()
    {
        Some(pickled) => {
            let reason = format!("holds {pickled}; PyTorch's own files are not read, safetensors files are");
            Err(CheckpointError::invalid(folder, reason))
        }
        None => Err(CheckpointError::Missing { path: folder.join(STEMS[1]) }),
    }
}

/// The names that fulfil a condition.
fn named(names: &[String], condition: impl Fn(&&str) -> bool) -> Vec<&str> {
    names.iter().map(String::as_str).filter(condition).collect()
}

/// Whether a file is one of several shards, such as `model-00001-of-00003.safetensors`.
fn is_shard(name: &str) -> bool {
    let Some((number, count)) = name.split_once("-of-") else { return false };
    let count = &count[..count.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(count.len())];
    number.ends_with(|digit: char| digit.is_ascii_digit())
        && count.parse::<u32>().is_ok_and(|count| count > 1)
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
