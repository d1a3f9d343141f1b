//! The layout of the Hugging Face hub's cache: `models--<owner>--<name>/{refs,snapshots,blobs}`.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::search::names;

const REPOSITORY: &str = "models--";

/// The snapshot in `folder`, which is a repository's folder in the cache, or holds exactly one, directly or in `hub`; `None` if
/// it is nothing of that kind.
///
/// # Errors
/// Why no snapshot can be chosen.
pub(super) fn snapshot(folder: &Path) -> Result<Option<PathBuf>, String> {
    if folder.join("snapshots").is_dir() {
        return in_repository(folder).map(Some);
    }
    let repositories: Vec<PathBuf> = [folder.to_owned(), folder.join("hub")]
        .iter()
        .flat_map(|cache| names(cache).unwrap_or_default().into_iter().map(|name| cache.join(name)))
        .filter(|path| is_repository(path) && path.join("snapshots").is_dir())
        .collect();
    match repositories.as_slice() {
        [] => Ok(None),
        [only] => in_repository(only).map(Some),
        several => Err(format!(
            "is a cache of the Hugging Face hub with {} repositories: link or configure one of them, such as {}",
            several.len(),
            several[0].display()
        )),
    }
}

/// The name of the repository whose snapshot the folder `path` is.
pub(super) fn repository_of(path: &Path) -> Option<String> {
    let snapshots =
        path.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))?;
    let name = snapshots.parent()?.file_name()?.to_str()?.strip_prefix(REPOSITORY)?;
    Some(name.rsplit("--").next().unwrap_or(name).to_owned())
}

fn is_repository(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(REPOSITORY))
}

/// The snapshot that `refs/main` names, else the only one.
fn in_repository(repository: &Path) -> Result<PathBuf, String> {
    let snapshots = repository.join("snapshots");
    let named = fs::read_to_string(repository.join("refs/main")).ok();
    if let Some(commit) = named.as_deref().map(str::trim)
        && let [Component::Normal(_)] = Path::new(commit).components().collect::<Vec<_>>()[..]
        && snapshots.join(commit).is_dir()
    {
        return Ok(snapshots.join(commit));
    }
    match names(&snapshots).unwrap_or_default().as_slice() {
        [only] => Ok(snapshots.join(only)),
        [] => Err("is a cache of the Hugging Face hub without a snapshot".to_owned()),
        several => Err(format!(
            "is a cache of the Hugging Face hub with {} snapshots and no refs/main that names one of them",
            several.len()
        )),
    }
}
