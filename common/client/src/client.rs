use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use url::Url;
use videosdgx_api::{
    Code, GenerateAccepted, GenerateRequest, Info, Job, JobId, JobList, JobStatus, LoraList, Problem, openai,
};

use crate::ClientError;

/// Default URL of the gateway.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Read timeout of ordinary requests.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Read timeout of requests that may load a model first; longer than the gateway's own timeout for a service.
const LOADING_TIMEOUT: Duration = Duration::from_secs(330);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Size limit of a response body; problem documents and job lists are much smaller.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// Total attempts of a submission; its idempotency key makes them one job.
const SUBMIT_ATTEMPTS: u32 = 4;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A connection to a gateway with a token. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    /// HTTP client for requests that may load a model first.
    slow_http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
    pub(crate) poll_every: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// Filter and page of a list of jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs with this status.
    pub status: Option<JobStatus>,
    /// Largest number of jobs per page.
    pub limit: Option<u32>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

impl Client {
    /// A client of the gateway at `url`; redirects are never followed, so that the token is sent to no other host.
    ///
    /// # Errors
    /// [`ClientError::InvalidUrl`] if it is not `http://` or `https://`, or contains a password.
    pub fn new(url: &str, token: Option<SecretString>) -> Result<Self, ClientError> {
        let invalid = |reason: String| ClientError::InvalidUrl(reason);
        let mut base = Url::parse(url.trim()).map_err(|error| invalid(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(invalid("it must start with http:// or https:// and name a host".to_owned()));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(invalid("it must not contain a user or password; give a token instead".to_owned()));
        }
        base.set_query(None);
        base.set_fragment(None);
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let http = |read_timeout| {
            reqwest::Client::builder()
                .user_agent(concat!("videosdgx/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(read_timeout)
                .build()
                .map_err(ClientError::transport)
        };
        let (http, slow_http) = (http(READ_TIMEOUT)?, http(LOADING_TIMEOUT)?);
        Ok(Self { http, slow_http, base, token, poll_every: POLL_EVERY })
    }

    /// Sets the polling interval of [`Client::follow`] when event streams are not available. Default: 1 s.
    #[must_use]
    pub fn polling_every(self, interval: Duration) -> Self {
        Self { poll_every: interval, ..self }
    }

    /// The gateway's address, ending in a slash.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// `GET /v1/models`.
    ///
    /// # Errors
    /// See [`ClientError`], as for every method.
    pub async fn models(&self) -> Result<openai::ModelList, ClientError> {
        self.json(self.request(Method::GET, &["v1", "models"])?).await
    }

    /// `GET /models/{model}/info`.
    pub async fn info(&self, model: &str) -> Result<Info, ClientError> {
        self.json(self.request(Method::GET, &["models", model, "info"])?).await
    }

    /// `GET /models/{model}/loras`.
    pub async fn loras(&self, model: &str) -> Result<LoraList, ClientError> {
        self.json(self.request(Method::GET, &["models", model, "loras"])?).await
    }

    /// Submits a job. Retried with the same idempotency key when the connection fails or the server is temporarily
    /// unavailable, so that there is never more than one job. `idempotency_key` makes the call itself repeatable; default: a
    /// random one.
    pub async fn generate(
        &self,
        model: &str,
        request: &GenerateRequest,
        idempotency_key: Option<&str>,
    ) -> Result<GenerateAccepted, ClientError> {
        let key = idempotency_key.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        let mut attempt = 1;
        loop {
            let call = self
                .request(Method::POST, &["models", model, "generate"])?
                .header("idempotency-key", &key)
                .json(request);
            match self.json(call).await {
                Err(error) if attempt < SUBMIT_ATTEMPTS && error.is_temporary() => {
                    // A full queue or a missing checkpoint is not resolved within seconds: the caller decides.
                    let Some(wait) = pause(&error, attempt) else { return Err(error) };
                    tokio::time::sleep(wait).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// `GET /jobs/{id}`.
    pub async fn job(&self, id: &JobId) -> Result<Job, ClientError> {
        self.json(self.request(Method::GET, &job_path(id, &[]))?).await
    }

    /// One page of the caller's jobs of `model`, newest first.
    pub async fn jobs(&self, model: &str, filter: &JobFilter) -> Result<JobList, ClientError> {
        let mut query: Vec<(&str, String)> = Vec::new();
        query.extend(filter.status.map(|status| ("status", status.as_str().to_owned())));
        query.extend(filter.limit.map(|limit| ("limit", limit.to_string())));
        query.extend(filter.cursor.clone().map(|cursor| ("cursor", cursor)));
        let mut url = self.url(&["models", model, "jobs"])?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.json(self.request_url(Method::GET, url)?).await
    }

    /// Cancels a job: at once when queued, at the next denoising step when running. Returns its present state.
    pub async fn cancel(&self, id: &JobId) -> Result<Job, ClientError> {
        self.json(self.request(Method::DELETE, &job_path(id, &[]))?).await
    }

    /// Deletes a job and its file, after cancelling it if it has not ended. Returns its last state.
    pub async fn forget(&self, id: &JobId) -> Result<Job, ClientError> {
        let mut url = self.url(&job_path(id, &[]))?;
        url.set_query(Some("forget=true"));
        self.json(self.request_url(Method::DELETE, url)?).await
    }

    pub(crate) fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        self.request_url(method, self.url(path)?)
    }

    /// As [`Client::request`], with a timeout that allows for loading a model.
    pub(crate) fn slow_request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        self.authorized(self.slow_http.request(method, self.url(path)?))
    }

    fn request_url(&self, method: Method, url: Url) -> Result<RequestBuilder, ClientError> {
        self.authorized(self.http.request(method, url))
    }

    fn authorized(&self, mut request: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        if let Some(token) = &self.token {
            let mut value =
                header::HeaderValue::from_str(&format!("Bearer {}", token.expose_secret().trim()))
                    .map_err(|_| ClientError::InvalidToken)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    fn url(&self, path: &[&str]) -> Result<Url, ClientError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::InvalidUrl("it cannot have a path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    /// Sends a request; a status other than success becomes an error with the server's message.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(ClientError::transport)?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request.header(header::ACCEPT, "application/json")).await?;
        let body = bounded(response).await?;
        serde_json::from_slice(&body).map_err(ClientError::unreadable)
    }
}

/// Path of a job. Its id begins with the name of its service.
pub(crate) fn job_path<'a>(id: &'a JobId, rest: &[&'a str]) -> Vec<&'a str> {
    let model = id.as_str().rsplit_once('-').map_or("", |(model, _)| model);
    [&["models", model, "jobs", id.as_str()], rest].concat()
}

/// Time to wait before the next attempt; `None` if the call should not be retried.
fn pause(error: &ClientError, attempt: u32) -> Option<Duration> {
    let backoff = Duration::from_millis(250 << attempt.min(5));
    match error {
        ClientError::Refused(problem) => {
            let temporary = [Code::Overloaded, Code::RateLimited, Code::UpstreamUnavailable, Code::Draining];
            let advised = Duration::from_secs(problem.retry_after_seconds.unwrap_or(0));
            (temporary.iter().any(|code| code.as_str() == problem.code) && advised <= LONGEST_WAIT)
                .then(|| advised.max(backoff))
        }
        ClientError::Unexpected { .. } | ClientError::Unreachable { .. } | ClientError::Broken { .. } => {
            Some(backoff)
        }
        _ => None,
    }
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ClientError::transport)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(ClientError::unreadable("it is larger than 32 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn refusal(response: Response) -> ClientError {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    let Ok(body) = bounded(response).await else { return ClientError::Unexpected { status } };
    if let Ok(mut problem) = serde_json::from_slice::<Problem>(&body) {
        problem.retry_after_seconds = problem.retry_after_seconds.or(retry_after);
        return ClientError::Refused(Box::new(problem));
    }
    if let Ok(openai::ErrorBody { error }) = serde_json::from_slice(&body) {
        return ClientError::Refused(Box::new(Problem {
            kind: "about:blank".to_owned(),
            title: error.kind,
            status,
            detail: error.message,
            code: error.code.unwrap_or_else(|| "unknown".to_owned()),
            field: error.param,
            limit: None,
            retry_after_seconds: retry_after,
            request_id: None,
        }));
    }
    ClientError::Unexpected { status }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_their_path_and_contain_no_password() {
        let client = Client::new("https://example.org/video", None).unwrap();
        let url = client.url(&["models", "wan21", "jobs"]).unwrap();
        assert_eq!(url.as_str(), "https://example.org/video/models/wan21/jobs");
        assert_eq!(client.url(&["models", "../x", "a b"]).unwrap().path(), "/video/models/..%2Fx/a%20b");
        for bad in ["", "example.org", "ftp://example.org", "http://user:hunter2@example.org"] {
            let error = Client::new(bad, None).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let client = Client::new(DEFAULT_URL, Some("canary-token".to_owned().into())).unwrap();
        assert!(!format!("{client:?}").contains("canary"));
        assert!(!format!("{:?}", client.request(Method::GET, &["x"]).unwrap()).contains("canary"));
    }

    #[test]
    fn the_service_of_a_job_is_in_its_id() {
        let id: JobId = "qwen3-vl-2b-0k3f9a7c21xz".parse().unwrap();
        assert_eq!(job_path(&id, &["events"]), ["models", "qwen3-vl-2b", "jobs", id.as_str(), "events"]);
    }
}
