//! Health checks: asks each service at an interval whether it is up, what it serves, and for its OpenAPI document.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde::de::DeserializeOwned;
use videosdgx_api::openai::ModelKind;
use videosdgx_api::{Readiness, ServiceRoot};

use super::service_state::{CHECK_TIMEOUT, FAILURES_UNTIL_DOWN};
use super::{Model, ServiceState, Upstream};

/// Largest response of `/` and `/ready` that is read, in bytes.
const MAX_RESPONSE: usize = 256 * 1024;
/// Largest OpenAPI document that is read, in bytes.
const MAX_DOCUMENT: usize = 4 * 1024 * 1024;
/// The document is read again after this number of checks, and whenever a service comes up.
const CHECKS_PER_DOCUMENT: u32 = 60;
/// A service that is down is checked more often, so that it is used again soon after it comes up.
const INTERVAL_WHEN_DOWN: Duration = Duration::from_secs(1);

/// Checks one service at every `interval`; never returns. Calls `on_document` when its OpenAPI document has changed.
pub(crate) async fn watch(
    client: reqwest::Client,
    model: Arc<Model>,
    upstream: Arc<Upstream>,
    interval: Duration,
    on_document: impl Fn() + Send,
) {
    let mut failures = 0;
    let mut checks_until_document = 0;
    loop {
        match check(&client, &upstream).await {
            Some(found) => {
                failures = 0;
                upstream.breaker.lock().unwrap_or_else(PoisonError::into_inner).health_check_passed();
                let came_up = upstream.set_checked(found);
                if came_up || checks_until_document == 0 {
                    let document =
                        fetch::<serde_json::Value>(&client, &upstream, "/openapi.json", MAX_DOCUMENT);
                    if let Some((StatusCode::OK, document)) = document.await {
                        checks_until_document = CHECKS_PER_DOCUMENT;
                        if model.set_document(document) {
                            on_document();
                        }
                    }
                }
                checks_until_document = checks_until_document.saturating_sub(1);
            }
            None => {
                failures += 1;
                if failures >= FAILURES_UNTIL_DOWN || upstream.state().up.is_none() {
                    let before = upstream.state();
                    upstream.set_checked(ServiceState {
                        up: Some(false),
                        reason: Some("it does not answer".to_owned()),
                        checkpoint: before.checkpoint,
                        kind: before.kind,
                        ..ServiceState::default()
                    });
                }
            }
        }
        let healthy = failures == 0;
        tokio::time::sleep(if healthy { interval } else { interval.min(INTERVAL_WHEN_DOWN) }).await;
    }
}

/// The state of the service, or `None` when it does not answer.
async fn check(client: &reqwest::Client, upstream: &Upstream) -> Option<ServiceState> {
    let health = client.get(upstream.url("/health")).timeout(CHECK_TIMEOUT).send().await.ok()?;
    if !health.status().is_success() {
        return None;
    }
    let root = fetch::<ServiceRoot>(client, upstream, "/", MAX_RESPONSE).await;
    let ready = fetch::<Readiness>(client, upstream, "/ready", MAX_RESPONSE).await.map(|(_, ready)| ready);
    let mut state = ServiceState { up: Some(true), ..ServiceState::default() };
    if let Some((_, root)) = root {
        state.kind = kind(&root);
        state.checkpoint = root.checkpoint;
    }
    if let Some(ready) = ready {
        state.ready = ready.ready;
        state.reason = ready.reason;
        state.loader = serde_json::to_value(ready.loader.state)
            .ok()
            .and_then(|name| name.as_str().map(ToOwned::to_owned));
    }
    Some(state)
}

/// What a service generates, by the routes that it has.
fn kind(root: &ServiceRoot) -> Option<ModelKind> {
    let has = |path: &str| root.endpoints.iter().any(|endpoint| endpoint.path == path);
    if has("/v1/chat/completions") {
        Some(ModelKind::Text)
    } else if has("/generate") {
        Some(ModelKind::Video)
    } else {
        None
    }
}

async fn fetch<T: DeserializeOwned>(
    client: &reqwest::Client,
    upstream: &Upstream,
    path: &str,
    max: usize,
) -> Option<(StatusCode, T)> {
    let mut response = client.get(upstream.url(path)).timeout(CHECK_TIMEOUT).send().await.ok()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > max {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some((response.status(), serde_json::from_slice(&bytes).ok()?))
}

impl Upstream {
    /// Stores the result of a check; returns whether the service has just come up.
    fn set_checked(&self, state: ServiceState) -> bool {
        let mut checked = self.checked.write().unwrap_or_else(PoisonError::into_inner);
        let (before, now) = (checked.up, state.up);
        if before != now {
            let (model, upstream) = (&self.model, &self.base);
            match now {
                Some(false) => tracing::warn!(event = "upstream_down", model, upstream),
                _ => tracing::info!(event = "upstream_up", model, upstream),
            }
        }
        *checked = state;
        before != Some(true) && now == Some(true)
    }
}
