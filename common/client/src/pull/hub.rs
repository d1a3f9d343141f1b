use std::{collections::HashSet, time::Duration};

use reqwest::{Response, StatusCode, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{Digest, PullError, SafePath, layout::Layout};
use crate::{ClientError, error::host_of};

/// Default endpoint for checkpoints.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

const MAX_REDIRECTS: usize = 10;
const MAX_PAGE_BYTES: usize = 16 << 20;
const MAX_FILES: usize = 10_000;

/// One repository at one revision of a Hugging Face-compatible endpoint.
#[derive(Clone)]
pub struct Hub {
    http: reqwest::Client,
    endpoint: Url,
    repository: String,
    revision: String,
    token: Option<SecretString>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &host_of(&self.endpoint))
            .field("repository", &self.repository)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Path within the repository.
    pub path: SafePath,
    /// Size in bytes.
    pub size: u64,
    /// Checksum of the content.
    pub digest: Digest,
}

#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    oid: String,
    size: u64,
}

impl Hub {
    /// `repository` as `owner/name`; `revision` a branch, tag or commit. The token is sent to `endpoint` only.
    ///
    /// # Errors
    /// [`PullError::InvalidSource`].
    pub fn new(
        endpoint: &str,
        repository: &str,
        revision: &str,
        token: Option<SecretString>,
    ) -> Result<Self, PullError> {
        let invalid = |what: String| PullError::InvalidSource(what);
        let endpoint = Url::parse(endpoint.trim_end_matches('/'))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
            .filter(|url| url.username().is_empty() && url.password().is_none())
            .ok_or_else(|| {
                invalid("the endpoint must be an http:// or https:// address without a password".into())
            })?;
        let name_is_sound = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if !repository
            .split_once('/')
            .is_some_and(|(owner, name)| name_is_sound(owner) && name_is_sound(name))
        {
            return Err(invalid(format!("{repository:?} is not a repository (owner/name)")));
        }
        if revision.is_empty() || revision.len() > 200 || revision.chars().any(char::is_control) {
            return Err(invalid("the revision must be a branch, a tag or a commit".into()));
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("videosdgx/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(15))
            .read_timeout(Duration::from_secs(60))
            .build()
            .map_err(ClientError::transport)?;
        Ok(Self { http, endpoint, repository: repository.to_owned(), revision: revision.to_owned(), token })
    }

    /// The files that serving needs, with sizes and checksums.
    ///
    /// # Errors
    /// [`PullError::Listing`] if it is not a diffusers or transformers checkpoint, or contains an unsafe path.
    pub async fn list(&self) -> Result<Vec<RemoteFile>, PullError> {
        type Reason = Box<dyn std::error::Error + Send + Sync>;
        let unusable = |source: Reason| PullError::Listing { repository: self.repository.clone(), source };
        let mut listed: Vec<TreeEntry> = Vec::new();
        let mut next = Some(self.tree_url()?);
        let mut pages = HashSet::new();
        while let Some(page) = next.take() {
            if !pages.insert(page.to_string()) {
                return Err(unusable("its pages repeat".into()));
            }
            let response = self.get(page.clone(), None, "the list of files").await?;
            next = next_page(&response, &page);
            let body = bounded(response).await?;
            let entries: Vec<TreeEntry> =
                serde_json::from_slice(&body).map_err(|error| unusable(error.into()))?;
            listed.extend(entries.into_iter().filter(|entry| entry.kind == "file"));
            if listed.len() > MAX_FILES {
                return Err(unusable(format!("it has more than {MAX_FILES} files").into()));
            }
        }
        let layout = Layout::of(listed.iter().map(|entry| entry.path.as_str())).ok_or_else(|| {
            let reason = "it has neither model_index.json nor config.json, so it is not a diffusers or transformers checkpoint";
            unusable(reason.into())
        })?;
        let needed = listed.iter().filter(|entry| layout.needs(&entry.path));
        let mut files: Vec<RemoteFile> =
            needed.map(remote_file).collect::<Result<_, _>>().map_err(|reason| unusable(reason.into()))?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(files)
    }

    /// Requests a file, from byte `from` on if the server supports it.
    pub(crate) async fn open(&self, file: &RemoteFile, from: u64) -> Result<Response, PullError> {
        let mut url = self.endpoint.clone();
        let (owner, name) = self.owner_and_name();
        self.extend(&mut url, &[owner, name, "resolve", &self.revision])?;
        self.extend(&mut url, &file.path.as_str().split('/').collect::<Vec<_>>())?;
        self.get(url, (from > 0).then_some(from), file.path.as_str()).await
    }

    fn owner_and_name(&self) -> (&str, &str) {
        self.repository.split_once('/').unwrap_or((&self.repository, ""))
    }

    fn tree_url(&self) -> Result<Url, PullError> {
        let mut url = self.endpoint.clone();
        let (owner, name) = self.owner_and_name();
        self.extend(&mut url, &["api", "models", owner, name, "tree", &self.revision])?;
        url.set_query(Some("recursive=true"));
        Ok(url)
    }

    fn extend(&self, url: &mut Url, path: &[&str]) -> Result<(), PullError> {
        url.path_segments_mut()
            .map_err(|()| PullError::InvalidSource("the endpoint cannot have a path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        Ok(())
    }

    /// GET with manual redirects: the token is sent to the endpoint only, and https never redirects to http.
    async fn get(&self, mut url: Url, from: Option<u64>, what: &str) -> Result<Response, PullError> {
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.http.get(url.clone()).header(header::ACCEPT_ENCODING, "identity");
            if let (Some(token), true) = (&self.token, url.origin() == self.endpoint.origin()) {
                let mut value =
                    header::HeaderValue::from_str(&format!("Bearer {}", token.expose_secret().trim()))
                        .map_err(|_| {
                            PullError::InvalidSource("the token contains invalid characters".into())
                        })?;
                value.set_sensitive(true);
                request = request.header(header::AUTHORIZATION, value);
            }
            if let Some(from) = from {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let response = request.send().await.map_err(ClientError::transport)?;
            let status = response.status();
            if status.is_success() || (status == StatusCode::RANGE_NOT_SATISFIABLE && from.is_some()) {
                return Ok(response);
            }
            let refused = |status: StatusCode, hint| PullError::Refused {
                host: host_of(&url),
                status: status.as_u16(),
                what: what.to_owned(),
                hint,
            };
            if !status.is_redirection() {
                return Err(refused(status, hint(status, self.token.is_some())));
            }
            let target = response
                .headers()
                .get(header::LOCATION)
                .and_then(|location| location.to_str().ok())
                .and_then(|location| url.join(location).ok())
                .filter(|target| {
                    target.scheme() == "https" || (target.scheme() == "http" && url.scheme() == "http")
                });
            url = target.ok_or_else(|| refused(status, ", a redirect that is not followed"))?;
        }
        Err(PullError::Refused {
            host: host_of(&self.endpoint),
            status: 310,
            what: what.to_owned(),
            hint: ", too many redirects",
        })
    }
}

fn hint(status: StatusCode, has_token: bool) -> &'static str {
    match (status.as_u16(), has_token) {
        (401 | 403, false) => "; set HF_TOKEN to a token that may read this repository",
        (401 | 403, true) => "; the token in HF_TOKEN may not read this repository",
        (404, false) => "; check the name and the revision, or set HF_TOKEN if it is private",
        (404, true) => "; check the name and the revision",
        _ => "",
    }
}

fn remote_file(entry: &TreeEntry) -> Result<RemoteFile, String> {
    let path = SafePath::new(&entry.path).ok_or_else(|| format!("it names the path {:?}", entry.path))?;
    let (size, digest) = match &entry.lfs {
        Some(large) => (large.size, Digest::sha256_from_hex(&large.oid)),
        None => (entry.size, Digest::git_blob_from_hex(&entry.oid)),
    };
    let digest = digest.ok_or_else(|| format!("{path} has no checksum"))?;
    Ok(RemoteFile { path, size, digest })
}

/// The URL in `Link: <…>; rel="next"`.
fn next_page(response: &Response, page: &Url) -> Option<Url> {
    let links = response.headers().get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|links| links.split(',')).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        (parameters.contains("rel=\"next\"") || parameters.contains("rel=next"))
            .then(|| page.join(target).ok())
            .flatten()
    })
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, PullError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ClientError::transport)? {
        if body.len() + chunk.len() > MAX_PAGE_BYTES {
            return Err(PullError::InvalidSource("the listing is larger than 16 MiB".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_checked_and_urls_escaped() {
        for repository in ["", "name", "a/b/c", "../etc", "a/..", "a b/c"] {
            assert!(Hub::new(DEFAULT_ENDPOINT, repository, "main", None).is_err(), "{repository:?}");
        }
        let hub = Hub::new("http://h/mirror/", "Wan-AI/Wan2.1", "refs/pr/1", None).unwrap();
        assert_eq!(
            hub.tree_url().unwrap().as_str(),
            "http://h/mirror/api/models/Wan-AI/Wan2.1/tree/refs%2Fpr%2F1?recursive=true"
        );
    }

    #[test]
    fn the_token_is_not_shown() {
        let hub = Hub::new("http://h", "a/b", "main", Some("canary".to_owned().into())).unwrap();
        assert!(!format!("{hub:?}").contains("canary"));
        let error = Hub::new("http://user:canary@h", "a/b", "main", None).unwrap_err();
        assert!(!error.to_string().contains("canary"));
    }
}
