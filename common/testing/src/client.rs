use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, redirect};
use serde_json::Value;

use crate::TestResponse;

/// An HTTP client with a base URL and a token. It follows no redirects; a failed connection is a panic.
#[derive(Debug, Clone)]
pub struct TestClient {
    /// The underlying client.
    pub client: Client,
    /// Base URL without a trailing slash.
    pub base: String,
    /// Bearer token; none is sent if it is empty.
    pub token: String,
}

impl TestClient {
    /// A client for `base`; an empty `token` sends none. Requests time out after a minute.
    ///
    /// # Panics
    /// If the HTTP client cannot be built.
    #[must_use]
    pub fn new(base: impl Into<String>, token: impl Into<String>) -> Self {
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .expect("an HTTP client");
        Self { client, base: base.into(), token: token.into() }
    }

    /// A request to `path` with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    /// Sends a request.
    ///
    /// # Panics
    /// If there is no response; as every method here.
    pub async fn send(&self, request: RequestBuilder) -> TestResponse {
        TestResponse::of(request.send().await.expect("a response")).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> TestResponse {
        self.send(self.request(Method::GET, path)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> TestResponse {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: Value) -> TestResponse {
        self.send(self.request(Method::POST, path).json(&body)).await
    }
}
