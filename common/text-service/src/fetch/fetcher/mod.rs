//! The HTTP client for pictures.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, StatusCode, redirect};
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::FetchError;
use super::resolve::{AddressRules, CheckedResolver, NotPublic};

/// Accepted content types; the decoder checks the bytes as well.
const TYPES: [&str; 3] = ["image/png", "image/jpeg", "image/webp"];
/// Maximum length of a URL.
const MAX_URL_BYTES: usize = 8192;

/// Limits of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchLimits {
    /// Maximum size of the file in bytes.
    pub(crate) bytes: usize,
    /// Time from the request to the last byte, including redirects.
    pub(crate) time: Duration,
    /// Maximum number of redirects.
    pub(crate) redirects: usize,
    /// Maximum number of concurrent fetches; further ones wait, within their `time`.
    pub(crate) concurrent: usize,
}

impl Default for FetchLimits {
    /// 10 MiB (the decoder's limit), 30 s, 3 redirects, 8 concurrent fetches.
    fn default() -> Self {
        let bytes = videosdgx_text::image::DecodeLimits::DEFAULT.bytes;
        Self { bytes, time: Duration::from_secs(30), redirects: 3, concurrent: 8 }
    }
}

/// Fetches pictures from the public internet, see [the module](super).
pub(crate) struct ImageFetcher {
    client: Client,
    rules: AddressRules,
    limits: FetchLimits,
    permits: Semaphore,
}

impl ImageFetcher {
    /// A fetcher with the system's resolver.
    ///
    /// # Errors
    /// [`FetchError::Unreachable`] if the system has no root certificates.
    pub(crate) fn new(limits: FetchLimits) -> Result<Self, FetchError> {
        Self::with_rules(limits, AddressRules::system())
    }

    pub(super) fn with_rules(limits: FetchLimits, rules: AddressRules) -> Result<Self, FetchError> {
        let client = Client::builder()
            .dns_resolver(CheckedResolver(rules.clone()))
            .redirect(redirect::Policy::none())
            // A proxy would resolve the host name again, unchecked.
            .no_proxy()
            .https_only(!rules.allow_http)
            // Connections are not reused, so each request uses addresses that were just checked.
            .pool_max_idle_per_host(0)
            .referer(false)
            .user_agent(concat!("videosdgx/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                tracing::warn!(%error, "image_fetcher_not_built");
                FetchError::Unreachable
            })?;
        Ok(Self { client, rules, limits, permits: Semaphore::new(limits.concurrent.max(1)) })
    }

    /// The file at `url`, if its content type is a picture format.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let fetched = tokio::time::timeout(self.limits.time, async {
            let _permit = self.permits.acquire().await.map_err(|_| FetchError::Unreachable)?;
            let response = self.follow(self.check_url(url, None)?).await?;
            self.body(response).await
        });
        fetched.await.unwrap_or(Err(FetchError::TooSlow(self.limits.time)))
    }

    /// Parses and checks a URL. `base`: the URL that redirected to it.
    fn check_url(&self, text: &str, base: Option<&Url>) -> Result<Url, FetchError> {
        if text.len() > MAX_URL_BYTES {
            return Err(FetchError::Address);
        }
        let url = match base {
            Some(base) => base.join(text),
            None => Url::parse(text),
        };
        let url = url.map_err(|_| FetchError::Address)?;
        let scheme_allowed = url.scheme() == "https" || (self.rules.allow_http && url.scheme() == "http");
        if !scheme_allowed || !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Address);
        }
        // Host names are checked by the resolver, but numeric addresses, in any notation, are not resolved.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(name)) => name.trim_matches(['[', ']', '.']).parse().ok(),
            None => return Err(FetchError::Address),
        };
        if literal.is_some_and(|address| !(self.rules.allowed)(address)) {
            return Err(FetchError::NotPublic);
        }
        Ok(url)
    }

    async fn follow(&self, mut url: Url) -> Result<Response, FetchError> {
        for _ in 0..=self.limits.redirects {
            let request = self.client.get(url.clone()).header(ACCEPT, TYPES.join(", "));
            let response = request.send().await.map_err(|error| request_error(&error))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(target) = response.headers().get(LOCATION) else {
                return Err(FetchError::Status(response.status().as_u16()));
            };
            url = self.check_url(target.to_str().map_err(|_| FetchError::Address)?, Some(&url))?;
        }
        Err(FetchError::TooManyRedirects(self.limits.redirects))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, FetchError> {
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(essence)) {
            return Err(FetchError::Type);
        }
        let too_large = FetchError::TooLarge(self.limits.bytes);
        if response.content_length().is_some_and(|length| length > self.limits.bytes as u64) {
            return Err(too_large);
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| request_error(&error))? {
            if bytes.len() + chunk.len() > self.limits.bytes {
                return Err(too_large);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// The error of a failed request: [`FetchError::NotPublic`] if the resolver refused the host.
fn request_error(error: &reqwest::Error) -> FetchError {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<NotPublic>() {
            return FetchError::NotPublic;
        }
        cause = error.source();
    }
    FetchError::Unreachable
}

#[cfg(test)]
mod tests;
