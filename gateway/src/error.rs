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
    /// The threads that serve connections cannot be started.
    #[error("cannot start the worker threads: {0}")]
    Workers(#[source] std::io::Error),
    /// TLS for services at `https` addresses cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be created.
    #[error("cannot create the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}
