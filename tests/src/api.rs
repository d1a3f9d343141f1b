//! An HTTP client with a base address and a token.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

/// A client that sends its token with every request to one base address.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: String,
}

impl Api {
    /// A client of `base` (without a final slash) that sends `token`; none if it is empty.
    #[must_use]
    pub fn new(base: impl Into<String>, token: impl Into<String>) -> Self {
        // Connections are not reused: one to a process that has been killed would fail the request.
        let client = Client::builder().pool_max_idle_per_host(0).build().unwrap_or_default();
        Self { client, base: base.into(), token: token.into() }
    }

    /// Base address, without a final slash.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The token; empty if none is sent.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A request to `path` with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    /// Sends GET `path`.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn get(&self, path: &str) -> Result<Response> {
        Ok(self.request(Method::GET, path).send().await?)
    }

    /// Sends GET `path` and parses the body as JSON, whatever the status.
    ///
    /// # Errors
    /// If there is no response or its body is not JSON.
    pub async fn json(&self, path: &str) -> Result<Value> {
        Ok(self.get(path).await?.json().await?)
    }

    /// Sends POST `path` with a JSON body.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Response> {
        Ok(self.request(Method::POST, path).json(body).send().await?)
    }

    /// Submits to `POST <prefix>/generate` and returns the job's id.
    ///
    /// # Errors
    /// If the job is not accepted.
    pub async fn submit(&self, prefix: &str, body: &Value) -> Result<String> {
        let answer = self.post(&format!("{prefix}/generate"), body).await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status != 202 {
            bail!("not accepted: {status} {text}");
        }
        let accepted: Value = serde_json::from_str(&text)?;
        Ok(accepted["job_id"].as_str().context("no job_id")?.to_owned())
    }

    /// Polls `GET <prefix>/jobs/{id}` until the job has ended; connection errors are ignored, as the service may be restarting.
    ///
    /// # Errors
    /// If it has not ended within `limit`.
    pub async fn await_job(&self, prefix: &str, id: &str, limit: Duration) -> Result<Value> {
        let start = Instant::now();
        loop {
            if let Ok(answer) = self.get(&format!("{prefix}/jobs/{id}")).await {
                let status = answer.status();
                if status == 200 {
                    let job: Value = answer.json().await?;
                    if !matches!(job["status"].as_str(), Some("queued" | "processing")) {
                        return Ok(job);
                    }
                } else if status.is_client_error() {
                    bail!("{status} for job {id}: {}", answer.text().await?);
                }
            }
            if start.elapsed() > limit {
                bail!("job {id} has not ended after {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
