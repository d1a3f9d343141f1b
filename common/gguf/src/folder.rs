//! GGUF files in folders, and files that stand in for others.

use std::path::{Path, PathBuf};

use crate::GgufError;

/// Why a file with these first bytes cannot be read, if it is a Git LFS pointer: what a clone without Git LFS has in place of
/// each large file.
///
/// ```
/// let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
/// assert!(videosdgx_gguf::lfs_pointer(pointer).is_some());
/// assert!(videosdgx_gguf::lfs_pointer(b"GGUF").is_none());
/// ```
#[must_use]
pub fn lfs_pointer(bytes: &[u8]) -> Option<&'static str> {
    bytes.starts_with(b"version https://git-lfs").then_some(
        "is a Git LFS pointer, not the file itself: run `git lfs pull` in the clone, or download the file",
    )
}

/// The GGUF file of a checkpoint's folder; `None` if it has none, or if it holds a checkpoint of safetensors files with its
/// `config.json`, which takes precedence.
///
/// # Errors
/// [`GgufError::Invalid`] for the parts of a split file, for a picture encoder (`mmproj`) beside the model, and for several
/// models; [`GgufError::Io`] when the folder cannot be listed.
pub fn file_in(folder: &Path) -> Result<Option<PathBuf>, GgufError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| GgufError::io(folder, error))? {
        let entry = entry.map_err(|error| GgufError::io(folder, error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    if names.iter().any(|name| name == "config.json")
        && names.iter().any(|name| name.contains(".safetensors"))
    {
        return Ok(None);
    }
    names.retain(|name| {
        Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
    });
    if let Some(part) = names.iter().find(|name| is_part(name)) {
        return Err(GgufError::invalid(folder.join(part), SPLIT));
    }
    let is_projector = |name: &&String| name.to_ascii_lowercase().contains("mmproj");
    if let (Some(projector), true) = (names.iter().find(is_projector), names.len() > 1) {
        let reason = "is a picture encoder (mmproj), which is not supported; remove it to serve the model beside it for text";
        return Err(GgufError::invalid(folder.join(projector), reason));
    }
    match names.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(folder.join(only))),
        several => {
            let reason = format!(
                "holds {} GGUF files; name the one to use: {}",
                several.len(),
                folder.join(&several[0]).display()
            );
            Err(GgufError::invalid(folder, reason))
        }
    }
}

/// Why a part of a split file is refused.
pub(crate) const SPLIT: &str = "is a part of a split GGUF file: merge the parts with `llama-gguf-split --merge FIRST-PART MERGED.gguf` and use the merged file";

/// Whether a name ends like a part's: `-00001-of-00003.gguf`.
fn is_part(name: &str) -> bool {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let mut pieces = stem.rsplit('-');
    let (count, of, number) = (pieces.next(), pieces.next(), pieces.next());
    of == Some("of") && count.is_some_and(digits) && number.is_some_and(digits) && count != Some("00001")
}
