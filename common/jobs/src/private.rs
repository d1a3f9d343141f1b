//! Folders and files that only the user of the process can read: jobs hold the prompts and pictures of their owners.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Creates the folder with mode 0700, and its parents, which are often shared, with the usual mode. An existing folder that others can
/// use gets the mode 0700.
///
/// # Errors
/// When it cannot be created. A folder of another user is left as it is, with a warning in the log.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {
            restrict(folder, FOLDER_MODE);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Opens a file for writing without changing its content; creates it with mode 0600.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(path)?;
    restrict(path, FILE_MODE);
    Ok(file)
}

/// Takes the rights of group and others away; does nothing when the file does not exist.
pub(crate) fn restrict(path: &Path, mode: u32) {
    let Ok(found) = fs::metadata(path) else { return };
    if found.permissions().mode() & 0o077 != 0
        && let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode))
    {
        tracing::warn!(path = %path.display(), %error, "others_can_read_it");
    }
}

/// Restricts the files that SQLite keeps beside `database`. New ones get the mode of the database.
pub(crate) fn restrict_companions(database: &Path) {
    for suffix in ["-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        restrict(Path::new(&name), FILE_MODE);
    }
}
