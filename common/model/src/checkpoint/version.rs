//! Notices that a checkpoint's files have changed, without reading them.

use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::search::names;

/// Levels of subfolders that are looked at.
const MAX_DEPTH: usize = 3;
/// Number of files that are looked at.
const MAX_FILES: usize = 10_000;

/// Identifies the state of a checkpoint's files: it differs when the checkpoint is another one, or when a file was added,
/// removed, replaced or written to. Derived from paths, sizes, modification times and inodes; contents are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckpointVersion(u64);

impl CheckpointVersion {
    /// The version of the folder or file at `path`; hidden files do not count. Takes microseconds for each file.
    ///
    /// # Errors
    /// When a folder or file cannot be examined.
    pub fn of(path: &Path) -> io::Result<Self> {
        let root = path.canonicalize()?;
        let mut hasher = DefaultHasher::new();
        let mut open: Vec<(PathBuf, usize)> = vec![(root, 0)];
        let mut files = 0;
        while let Some((path, depth)) = open.pop() {
            let facts = fs::metadata(&path)?;
            path.hash(&mut hasher);
            if facts.is_dir() {
                if depth <= MAX_DEPTH {
                    // Reversed, because the last one is taken first.
                    open.extend(names(&path)?.into_iter().rev().map(|name| (path.join(name), depth + 1)));
                }
                continue;
            }
            files += 1;
            if files > MAX_FILES {
                break;
            }
            (facts.len(), facts.mtime(), facts.mtime_nsec(), facts.dev(), facts.ino()).hash(&mut hasher);
        }
        Ok(Self(hasher.finish()))
    }

    /// The version as a number, for comparison.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// As 16 hexadecimal digits.
impl fmt::Display for CheckpointVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
