use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::JwkSet;
use secrecy::{ExposeSecret, SecretString};

use crate::key_set::KeySet;
use crate::{AuthError, Signer};

const SIGNING_KEY: &str = "signing-key.pem";
const KEY_SET: &str = "jwks.json";
const LOCK: &str = ".lock";

/// The folder where the gateway and its services keep their key.
///
/// `signing-key.pem` (Ed25519, mode 0600) signs; `jwks.json` verifies. The first process that starts creates both. A file
/// lock admits one process at a time, and each file is renamed into place when it is complete, so a reader never sees a
/// partial key. A process that may not read the signing key can still verify with `jwks.json`.
#[derive(Debug)]
pub struct KeyFolder {
    dir: PathBuf,
    signer: Option<Signer>,
    keys: KeySet,
    created: bool,
}

impl KeyFolder {
    /// Opens the folder `dir`; creates the folder and its key if they do not exist.
    ///
    /// # Errors
    /// [`AuthError::File`] when the folder cannot be used, [`AuthError::KeyExposed`] when others can read the
    /// signing key, [`AuthError::InvalidKey`] when a file holds something else.
    pub fn load_or_create(dir: impl AsRef<Path>) -> Result<Self, AuthError> {
        let dir = dir.as_ref();
        if let Some(folder) = Self::load(dir)? {
            return Ok(folder);
        }
        fs::create_dir_all(dir).map_err(AuthError::file("create", dir))?;
        let lock_path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(AuthError::file("open", &lock_path))?;
        lock.lock().map_err(AuthError::file("lock", &lock_path))?;
        // Another process may have created them while this one waited for the lock.
        if let Some(folder) = Self::load(dir)? {
            return Ok(folder);
        }
        let key_path = dir.join(SIGNING_KEY);
        let created = !exists(&key_path)?;
        if created {
            write_whole(&key_path, Signer::generate_pem()?.expose_secret().as_bytes(), 0o600)?;
        }
        let signer = read_signer(&key_path)?
            .ok_or_else(|| AuthError::invalid_key(key_path.display().to_string(), "it may not be read"))?;
        Self::publish(dir, &signer)?;
        let folder = Self::load(dir)?;
        folder.map(|folder| Self { created, ..folder }).ok_or_else(|| {
            AuthError::invalid_key(dir.display().to_string(), "the key vanished while it was made")
        })
    }

    /// The folder as it is; `None` when it is not complete.
    fn load(dir: &Path) -> Result<Option<Self>, AuthError> {
        let key_set_path = dir.join(KEY_SET);
        let json = match fs::read(&key_set_path) {
            Ok(json) => json,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AuthError::file("read", key_set_path)(error)),
        };
        let keys = KeySet::from_jwks(&json, &key_set_path.display().to_string())?;
        let signer = read_signer(&dir.join(SIGNING_KEY))?;
        // After the signing key was replaced, the folder is complete only once the new public key is published.
        let published = signer
            .as_ref()
            .and_then(Signer::public)
            .is_none_or(|public| keys.keys.iter().any(|key| key.id == public.common.key_id));
        Ok(published.then(|| Self { dir: dir.to_owned(), signer, keys, created: false }))
    }

    /// Adds the signer's public key to `jwks.json`, keeping the older ones.
    fn publish(dir: &Path, signer: &Signer) -> Result<(), AuthError> {
        let path = dir.join(KEY_SET);
        let mut set = match fs::read(&path) {
            Ok(json) => KeySet::from_jwks(&json, &path.display().to_string())?.public(),
            Err(_) => JwkSet { keys: Vec::new() },
        };
        set.keys.splice(0..0, signer.public().cloned());
        let json =
            serde_json::to_vec_pretty(&set).map_err(|error| AuthError::invalid_key("jwks.json", error))?;
        write_whole(&path, &json, 0o644)
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether this call created the key; then the operator should be told how to mint a token.
    pub fn was_created(&self) -> bool {
        self.created
    }

    /// Mints tokens; `None` for a process that may only verify.
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    pub(crate) fn into_keys(self) -> KeySet {
        self.keys
    }
}

fn exists(path: &Path) -> Result<bool, AuthError> {
    path.try_exists().map_err(AuthError::file("look for", path))
}

/// `None` when there is no key or this process may not read it.
fn read_signer(path: &Path) -> Result<Option<Signer>, AuthError> {
    let pem = match fs::read_to_string(path) {
        Ok(pem) => SecretString::from(pem),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(AuthError::file("read", path)(error)),
    };
    let mode = fs::metadata(path).map_err(AuthError::file("look at", path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AuthError::KeyExposed { path: path.to_owned(), mode });
    }
    Signer::from_ed25519_pem(&pem, &path.display().to_string()).map(Some)
}

/// Writes to a temporary name, syncs, renames, syncs the folder. Called under the lock only.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthError> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(AuthError::file("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(AuthError::file("write", &temporary))?;
    fs::rename(&temporary, path).map_err(AuthError::file("rename", &temporary))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(AuthError::file("sync", dir))
}
