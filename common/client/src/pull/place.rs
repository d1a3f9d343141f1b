use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::PullError;

/// A path from a listing that stays inside the folder it is joined to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SafePath(String);

impl SafePath {
    /// `None` for a path that is absolute, leads upwards, is hidden or has characters with a special meaning in a file system.
    #[must_use]
    pub fn new(path: &str) -> Option<Self> {
        let part_is_sound = |part: &str| {
            !part.is_empty()
                && part.len() <= 200
                && !part.starts_with('.')
                && !part.ends_with(".partial")
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+=@ ".contains(c))
        };
        (path.len() <= 1000 && path.split('/').all(part_is_sound)).then(|| Self(path.to_owned()))
    }

    /// The path in the repository.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path within `folder`.
    #[must_use]
    pub fn within(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Free space that must remain on the disk.
const MARGIN: u64 = 256 << 20;

/// Refuses when `needed` more bytes do not fit on the disk of `folder`, which need not exist yet.
pub(crate) fn check_space(folder: &Path, needed: u64) -> Result<(), PullError> {
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    // If the free space is unknown, the download is tried.
    let Ok(disk) = rustix::fs::statvfs(existing) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed > 0 && needed.saturating_add(MARGIN) > free {
        return Err(PullError::NoSpace { folder: folder.to_owned(), needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_folder_are_refused() {
        for path in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "a\\b",
            "a\0",
            ".git/config",
            "a/.b",
            "é",
            "C:x",
        ] {
            assert_eq!(SafePath::new(path), None, "{path:?}");
        }
        assert!(SafePath::new("vae/diffusion_pytorch_model-00001-of-00002.safetensors").is_some());
    }

    #[test]
    fn a_full_disk_is_detected_in_advance() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("not/yet/there");
        assert!(check_space(&folder, 0).is_ok());
        let error = check_space(&folder, u64::MAX / 2).unwrap_err().to_string();
        assert!(error.contains("GB"), "{error}");
    }
}
