//! Which files a checkpoint folder has now, without reading them.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::CheckpointError;

/// Deepest folder below a checkpoint's that is looked into, so that links cannot lead round in a circle.
const MAX_DEPTH: usize = 4;
/// A folder of a checkpoint's whose files are not the checkpoint's: each LoRA has a fingerprint of its own.
const LORAS: &str = "loras";

/// Identifies the files of a checkpoint: their names, sizes, times and inodes, links followed. It changes when a file is
/// exchanged, added or removed; hidden files and those in `loras/` do not count. It is stable within one build of a program only.
///
/// # Errors
/// [`CheckpointError::Missing`] or [`CheckpointError::Invalid`] when the folder cannot be listed.
pub fn folder_fingerprint(folder: &Path) -> Result<String, CheckpointError> {
    let mut files = Vec::new();
    list(folder, folder, MAX_DEPTH, &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// Identifies one file by size, time and inode, links followed: it changes when the file is exchanged.
///
/// # Errors
/// [`CheckpointError::Missing`] or [`CheckpointError::Invalid`] when the file cannot be examined.
pub fn file_fingerprint(path: &Path) -> Result<String, CheckpointError> {
    let metadata = fs::metadata(path).map_err(|error| CheckpointError::io(path, error))?;
    let mut hasher = DefaultHasher::new();
    facts(&metadata).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// Size, time of the last change, inode.
type Facts = (u64, (i64, i64), u64);

fn facts(metadata: &fs::Metadata) -> Facts {
    (metadata.len(), (metadata.mtime(), metadata.mtime_nsec()), metadata.ino())
}

/// Path below the folder, and its facts.
type File = (PathBuf, Facts);

fn list(root: &Path, folder: &Path, depth: usize, files: &mut Vec<File>) -> Result<(), CheckpointError> {
    let io = |error| CheckpointError::io(folder, error);
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // A link to nothing, or a file that was removed just now.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            let holds_loras = folder == root && entry.file_name() == LORAS;
            if depth > 0 && !holds_loras {
                list(root, &path, depth - 1, files)?;
            }
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
        files.push((name, facts(&metadata)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_exchanged_file_changes_the_fingerprint_and_a_hidden_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let fingerprint = || folder_fingerprint(folder.path()).unwrap();
        assert!(matches!(
            folder_fingerprint(&folder.path().join("none")),
            Err(CheckpointError::Missing { .. })
        ));
        let mut seen = vec![fingerprint()];
        let mut changes = |what: &str| {
            assert!(!seen.contains(&fingerprint()), "{what}");
            seen.push(fingerprint());
            assert_eq!(seen.last(), Some(&fingerprint()));
        };
        fs::create_dir(folder.path().join("vae")).unwrap();
        fs::write(folder.path().join("vae/weights"), "1").unwrap();
        changes("a file is added");
        fs::write(folder.path().join("vae/weights.new"), "2").unwrap();
        fs::rename(folder.path().join("vae/weights.new"), folder.path().join("vae/weights")).unwrap();
        changes("a file is replaced by one of the same size");
        fs::write(other.path().join("a"), "1").unwrap();
        fs::write(other.path().join("b"), "1").unwrap();
        symlink(other.path().join("a"), folder.path().join("config")).unwrap();
        changes("a link is added");
        fs::remove_file(folder.path().join("config")).unwrap();
        symlink(other.path().join("b"), folder.path().join("config")).unwrap();
        changes("the link leads to another file");
        fs::create_dir(folder.path().join(".cache")).unwrap();
        fs::write(folder.path().join(".cache/lock"), "").unwrap();
        symlink(folder.path(), folder.path().join("vae/loop")).unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        fingerprint();
        fs::create_dir(folder.path().join("loras")).unwrap();
        fs::write(folder.path().join("loras/style.safetensors"), "1").unwrap();
        fs::remove_file(folder.path().join("vae/loop")).unwrap();
        assert_eq!(seen.last(), Some(&fingerprint()), "hidden files, LoRAs and dangling links do not count");
    }

    #[test]
    fn a_file_of_the_same_size_has_another_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("style.safetensors");
        assert!(matches!(file_fingerprint(&path), Err(CheckpointError::Missing { .. })));
        fs::write(&path, "1").unwrap();
        let before = file_fingerprint(&path).unwrap();
        assert_eq!(file_fingerprint(&path).unwrap(), before);
        fs::write(folder.path().join("new"), "2").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert_ne!(file_fingerprint(&path).unwrap(), before);
    }
}
