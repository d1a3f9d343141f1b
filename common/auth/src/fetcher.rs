use std::future::Future;
use std::pin::Pin;

/// Result of a fetch: the JWKS document, or the reason why there is none.
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

/// Reads a JWKS document from a URL. An implementation bounds time and size.
pub trait JwksFetcher: Send + Sync + 'static {
    /// Fetches the document at `url`.
    fn fetch<'a>(&'a self, url: &'a str) -> FetchFuture<'a>;
}

/// Fetches over HTTP: within 5 s, at most 256 KiB, no redirects.
#[cfg(feature = "http")]
#[derive(Debug, Clone)]
pub struct HttpJwksFetcher {
    client: reqwest::Client,
}

#[cfg(feature = "http")]
impl HttpJwksFetcher {
    /// Longest time a fetch may take.
    pub const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
    /// Largest document that is read, in bytes.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// A fetcher with its own connection pool.
    ///
    /// # Errors
    /// When the system's certificates cannot be loaded.
    pub fn new() -> Result<Self, crate::AuthError> {
        let client = reqwest::Client::builder()
            .timeout(Self::TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| crate::AuthError::Configuration {
                name: "VIDEOSDGX_JWKS_URL",
                reason: error.to_string(),
            })?;
        Ok(Self { client })
    }
}

#[cfg(feature = "http")]
impl JwksFetcher for HttpJwksFetcher {
    fn fetch<'a>(&'a self, url: &'a str) -> FetchFuture<'a> {
        Box::pin(async move {
            let mut response = self.client.get(url).send().await.map_err(|error| error.to_string())?;
            if response.status() != reqwest::StatusCode::OK {
                return Err(format!("it answered {}", response.status()));
            }
            let mut document = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
                if document.len() + chunk.len() > Self::MAX_BYTES {
                    return Err(format!("it is larger than {} bytes", Self::MAX_BYTES));
                }
                document.extend_from_slice(&chunk);
            }
            Ok(document)
        })
    }
}
