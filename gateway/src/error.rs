use std::net::SocketAddr;

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting cannot be used.
    #[error("{name}: {reason}")]
    Configuration {
        /// File, variable or section.
        name: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// The keys cannot be used.
    #[error(transparent)]
    Auth(#[from] videosdgx_auth::AuthError),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The HTTP client cannot be created.
    #[error("cannot create the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}
