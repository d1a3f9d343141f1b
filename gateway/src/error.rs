use std::net::SocketAddr;

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting cannot be used.
    #[error("{name}: {reason}")]
    Configuration {
        /// File, variable or table.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The keys cannot be used.
    #[error(transparent)]
    Auth(#[from] videosdgx_auth::AuthError),
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The HTTP client cannot be made.
    #[error("cannot make the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}
