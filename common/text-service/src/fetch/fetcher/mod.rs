//! The client that fetches.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, StatusCode, redirect};
use tokio::sync::Semaphore;
use url::{Host, Url};
use videosdgx_api::media_type;

use super::FetchError;
use super::resolve::{CheckedResolver, NotPublic, Rules};

/// Types that are taken; the decoder looks at the bytes again.
const TYPES: [&str; 3] = ["image/png", "image/jpeg", "image/webp"];
/// Longer addresses are refused.
const MAX_URL_BYTES: usize = 8192;

/// Most that a fetch may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchLimits {
    /// Bytes of the picture.
    pub(crate) bytes: usize,
    /// From the question to the last byte, redirects included.
    pub(crate) time: Duration,
    /// Redirects that are followed.
    pub(crate) redirects: usize,
    /// Fetches at the same time; more wait, within their time.
    pub(crate) at_once: usize,
}

impl Default for FetchLimits {
    /// 10 MiB (what the decoder takes), 30 s, 3 redirects, 8 at once.
    fn default() -> Self {
        let bytes = videosdgx_text::image::DecodeLimits::DEFAULT.bytes;
        Self { bytes, time: Duration::from_secs(30), redirects: 3, at_once: 8 }
    }
}

/// Fetches pictures from the public internet, see [the module](super).
pub(crate) struct ImageFetcher {
    client: Client,
    rules: Rules,
    limits: FetchLimits,
    turns: Semaphore,
}

impl ImageFetcher {
    /// With the system's resolver.
    ///
    /// # Errors
    /// [`FetchError::Unreachable`] when the system has no certificates to check servers by.
    pub(crate) fn new(limits: FetchLimits) -> Result<Self, FetchError> {
        Self::with_rules(limits, Rules::system())
    }

    pub(super) fn with_rules(limits: FetchLimits, rules: Rules) -> Result<Self, FetchError> {
        let client = Client::builder()
            .dns_resolver(CheckedResolver(rules.clone()))
            .redirect(redirect::Policy::none())
            // A proxy would resolve names again, behind our back.
            .no_proxy()
            .https_only(!rules.plain)
            // A connection serves one question: none is there from another answer of the name server.
            .pool_max_idle_per_host(0)
            .referer(false)
            .user_agent(concat!("videosdgx/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                tracing::warn!(%error, "image_fetcher_not_built");
                FetchError::Unreachable
            })?;
        Ok(Self { client, rules, limits, turns: Semaphore::new(limits.at_once.max(1)) })
    }

    /// The bytes at `url`, of a type that says it is a picture.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let fetched = tokio::time::timeout(self.limits.time, async {
            let _turn = self.turns.acquire().await.map_err(|_| FetchError::Unreachable)?;
            let response = self.follow(self.checked(url, None)?).await?;
            self.body(response).await
        });
        fetched.await.unwrap_or(Err(FetchError::TooSlow(self.limits.time)))
    }

    /// The address, when its form allows it to be asked at all. `base`: where a redirect came from.
    fn checked(&self, text: &str, base: Option<&Url>) -> Result<Url, FetchError> {
        if text.len() > MAX_URL_BYTES {
            return Err(FetchError::Address);
        }
        let url = match base {
            Some(base) => base.join(text),
            None => Url::parse(text),
        };
        let url = url.map_err(|_| FetchError::Address)?;
        let scheme = url.scheme() == "https" || (self.rules.plain && url.scheme() == "http");
        if !scheme || !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Address);
        }
        // Names are checked when they are resolved; numbers, in whatever spelling, never are.
        let number = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(name)) => name.trim_matches(['[', ']', '.']).parse().ok(),
            None => return Err(FetchError::Address),
        };
        if number.is_some_and(|address| !(self.rules.allowed)(address)) {
            return Err(FetchError::NotPublic);
        }
        Ok(url)
    }

    async fn follow(&self, mut url: Url) -> Result<Response, FetchError> {
        for _ in 0..=self.limits.redirects {
            let question = self.client.get(url.clone()).header(ACCEPT, TYPES.join(", "));
            let response = question.send().await.map_err(|error| unreachable(&error))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(target) = response.headers().get(LOCATION) else {
                return Err(FetchError::Status(response.status().as_u16()));
            };
            url = self.checked(target.to_str().map_err(|_| FetchError::Address)?, Some(&url))?;
        }
        Err(FetchError::TooManyRedirects(self.limits.redirects))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, FetchError> {
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| media_type(value.to_str().ok()?));
        if !kind.is_some_and(|kind| TYPES.contains(&kind.essence_str())) {
            return Err(FetchError::Type);
        }
        let too_large = FetchError::TooLarge(self.limits.bytes);
        if response.content_length().is_some_and(|length| length > self.limits.bytes as u64) {
            return Err(too_large);
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
            if bytes.len() + chunk.len() > self.limits.bytes {
                return Err(too_large);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// Why the client could not: the checked resolver's refusal is somewhere among the causes.
fn unreachable(error: &reqwest::Error) -> FetchError {
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
