//! Why a service does not start.

use videosdgx_auth::AuthError;

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keys cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A folder, a thread or a socket is not available.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as an infinitive: "listen on 127.0.0.1:8002".
        action: String,
        /// The operating system's error.
        source: std::io::Error,
    },
}
