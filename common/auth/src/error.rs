use std::path::PathBuf;

/// Errors while keys are configured, created, loaded or used for signing.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// The attempted action.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The signing key can be read by others.
    #[error("{path} can be read by others (mode {mode:o}): run `chmod 600` on it")]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold a key of a kind that is supported.
    #[error("{origin} holds no usable key: {reason}")]
    InvalidKey {
        /// File, variable or URL.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A configuration variable has a value that cannot be used.
    #[error("{name}: {reason}")]
    Configuration {
        /// The variable.
        name: &'static str,
        /// What is wrong, never the value itself when it is a secret.
        reason: String,
    },
    /// A JWKS URL could not be read.
    #[error("cannot fetch the key set {url}: {reason}")]
    Fetch {
        /// The URL.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// A word that names no scope.
    #[error(transparent)]
    UnknownScope(#[from] videosdgx_api::UnknownScope),
    /// A token cannot be minted with these values.
    #[error("cannot mint a token: {reason}")]
    Mint {
        /// What is wrong.
        reason: String,
    },
}

impl AuthError {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| AuthError::File { action, path, source }
    }

    pub(crate) fn invalid_key(origin: impl Into<String>, reason: impl ToString) -> Self {
        AuthError::InvalidKey { origin: origin.into(), reason: reason.to_string() }
    }
}
