//! The search for a service's checkpoint.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::hub;
use crate::ModelError;

/// Number of names that a message about an unusable folder lists.
const LISTED_NAMES: usize = 6;
/// Longest chain of links that is followed to a file.
const MAX_LINKS: usize = 16;
/// The folder of a service's LoRAs, beside its checkpoint.
const LORAS: &str = "loras";

/// What a usable checkpoint consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointFormat {
    /// A pipeline in the layout of diffusers: a folder with `model_index.json`.
    Diffusers,
    /// A language model: a folder with `config.json` or a GGUF file, or a GGUF file.
    Text,
}

impl CheckpointFormat {
    fn wanted(self) -> &'static str {
        match self {
            Self::Diffusers => {
                "a folder in the layout of diffusers: model_index.json and one subfolder per component, with safetensors files"
            }
            Self::Text => "a folder with config.json, tokenizer.json and safetensors files, or a GGUF file",
        }
    }

    /// Whether `folder` has the file that marks a checkpoint of this format.
    #[must_use]
    pub fn is_in(self, folder: &Path) -> bool {
        match self {
            Self::Diffusers => folder.join("model_index.json").is_file(),
            Self::Text => {
                folder.join("config.json").is_file()
                    || names(folder).is_ok_and(|names| names.iter().any(|name| is_gguf(Path::new(name))))
            }
        }
    }
}

/// The places in which a service looks for its checkpoint.
///
/// ```
/// use videosdgx_model::{CheckpointFormat, CheckpointSearch};
///
/// let models = tempfile::tempdir()?;
/// let (installed, demonstration) = (models.path().join("qwen3-4b"), models.path().join("demo"));
/// let search = CheckpointSearch {
///     configured: None,
///     installed: &installed,
///     demonstration: &demonstration,
///     format: CheckpointFormat::Text,
/// };
/// assert!(search.locate()?.demonstration, "nothing is installed");
///
/// std::fs::create_dir(models.path().join("qwen3-4b-instruct-2507"))?;
/// std::fs::write(models.path().join("qwen3-4b-instruct-2507/config.json"), "{}")?;
/// std::os::unix::fs::symlink("qwen3-4b-instruct-2507", &installed)?;
/// assert_eq!(search.locate()?.name, "qwen3-4b-instruct-2507");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct CheckpointSearch<'a> {
    /// `VIDEOSDGX_CHECKPOINT`; when set, no other place is used, even if it does not exist.
    pub configured: Option<&'a Path>,
    /// `VIDEOSDGX_MODELS_DIR/<service>`, used if anything is there.
    pub installed: &'a Path,
    /// The demonstration checkpoint, used if nothing is at `installed`, or nothing but the folder `loras`.
    pub demonstration: &'a Path,
    /// What a usable checkpoint consists of.
    pub format: CheckpointFormat,
}

/// A checkpoint that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointLocation {
    /// The folder or file, with links resolved.
    pub path: PathBuf,
    /// The checkpoint's own name: of the folder that a link points at, of a file without its extension, or of the repository
    /// in a cache of the Hugging Face hub.
    pub name: String,
    /// Whether it is the demonstration checkpoint.
    pub demonstration: bool,
}

impl CheckpointSearch<'_> {
    /// Searches the file system; every call does, so that a checkpoint which is installed while the service runs is found.
    /// A cache of the Hugging Face hub is followed to its snapshot. A configured path that does not exist and the
    /// demonstration are returned unchecked: opening them reports what is missing.
    ///
    /// # Errors
    /// [`ModelError::CheckpointInvalid`] when something is there that is not a checkpoint, with what was found and what is
    /// wanted.
    pub fn locate(&self) -> Result<CheckpointLocation, ModelError> {
        let (path, demonstration) = match self.configured {
            Some(path) if is_absent(path) => (path.to_owned(), false),
            Some(path) => (self.resolve(path)?, same(path, self.demonstration)),
            None if is_absent(self.installed) || holds_only_loras(self.installed) => {
                (self.demonstration.to_owned(), true)
            }
            None => (self.resolve(self.installed)?, same(self.installed, self.demonstration)),
        };
        Ok(CheckpointLocation { name: name_of(&path), path, demonstration })
    }

    /// The checkpoint at `path`, which exists.
    fn resolve(&self, path: &Path) -> Result<PathBuf, ModelError> {
        let wanted = self.format.wanted();
        let invalid = |found: &str| ModelError::CheckpointInvalid {
            file: path.to_owned(),
            reason: format!("{found}; wanted is {wanted}"),
        };
        let real = path.canonicalize().map_err(|error| match (error.kind(), fs::read_link(path)) {
            (ErrorKind::NotFound, Ok(target)) => {
                invalid(&format!("is a link to {}, which does not exist", target.display()))
            }
            _ => invalid(&format!("cannot be read: {error}")),
        })?;
        if real.is_file() {
            // The files of the hub's cache are links to files without an extension.
            let file = linked_gguf(path).filter(|_| self.format == CheckpointFormat::Text);
            return file.ok_or_else(|| invalid("is a file"));
        }
        if self.format.is_in(&real) {
            return Ok(real);
        }
        match hub::snapshot(&real) {
            Ok(Some(snapshot)) if self.format.is_in(&snapshot) => Ok(snapshot),
            Ok(Some(snapshot)) => {
                let found = self.found(&snapshot);
                Err(invalid(&format!("is a cache of the Hugging Face hub whose snapshot {found}")))
            }
            Ok(None) => Err(invalid(&self.found(&real))),
            Err(reason) => Err(invalid(&reason)),
        }
    }

    /// What is in a folder that is not a checkpoint.
    fn found(&self, folder: &Path) -> String {
        let names = match names(folder) {
            Ok(names) if names.is_empty() => return "is empty".to_owned(),
            Ok(names) => names,
            Err(error) => return format!("cannot be read: {error}"),
        };
        if let Some(inner) = names.iter().find(|name| self.format.is_in(&folder.join(name))) {
            return format!(
                "holds the checkpoint one level too deep, in {inner}/: link or configure {}",
                folder.join(inner).display()
            );
        }
        let mut list: Vec<String> = names
            .iter()
            .take(LISTED_NAMES)
            .map(|name| if folder.join(name).is_dir() { format!("{name}/") } else { name.clone() })
            .collect();
        if names.len() > LISTED_NAMES {
            list.push(format!("{} more", names.len() - LISTED_NAMES));
        }
        let pickled = |name: &String| {
            let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
            ["pth", "pt", "bin", "ckpt"].contains(&extension.to_ascii_lowercase().as_str())
        };
        let remark = if names.iter().any(pickled) {
            " (.pth, .pt, .bin and .ckpt files of PyTorch are not read)"
        } else {
            ""
        };
        format!("holds {}{remark}", list.join(", "))
    }
}

/// The checkpoint's own name: a folder's or file's, or the repository's of a snapshot in the hub's cache.
fn name_of(path: &Path) -> String {
    if let Some(repository) = hub::repository_of(path) {
        return repository;
    }
    let name = if is_gguf(path) { path.file_stem() } else { path.file_name() };
    name.map_or_else(|| "checkpoint".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The first path of the chain of links at `path` that is called a GGUF file.
fn linked_gguf(path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if is_gguf(&path) {
            return Some(path);
        }
        let target = fs::read_link(&path).ok()?;
        path = path.parent().map_or_else(|| target.clone(), |folder| folder.join(&target));
    }
    None
}

/// The names in a folder that are not hidden, sorted.
pub(super) fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Whether nothing is at `path`, not even a link.
fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Whether `path` is a folder with nothing in it but the service's LoRAs.
fn holds_only_loras(path: &Path) -> bool {
    names(path).is_ok_and(|names| names == [LORAS])
}

/// Whether both paths lead to the same place, or `left` to a file in the folder `right`.
fn same(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right || (left.is_file() && left.parent() == Some(&right)),
        _ => false,
    }
}
