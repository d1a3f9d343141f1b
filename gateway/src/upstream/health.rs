use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde::de::DeserializeOwned;
use videosdgx_api::openai::ModelKind;
use videosdgx_api::{Readiness, ServiceRoot};

use super::service_state::{FAILED_LOOKS, LOOK_LIMIT};
use super::{Model, ServiceState, Upstream};

/// Largest answer of `/`, `/ready` that is read.
const MAX_ANSWER: usize = 256 * 1024;
/// Largest OpenAPI document that is read.
const MAX_DOCUMENT: usize = 4 * 1024 * 1024;
/// The document is read again every so many looks, and whenever a service comes up.
const LOOKS_A_DOCUMENT: u32 = 60;
/// A service that is down is looked at more often, so that it is used soon after its return.
const INTERVAL_WHEN_DOWN: Duration = Duration::from_secs(1);

/// Looks at one service for ever, every `interval`. `on_document` is called when its OpenAPI document changed.
pub(crate) async fn watch(
    client: reqwest::Client,
    model: Arc<Model>,
    upstream: Arc<Upstream>,
    interval: Duration,
    on_document: impl Fn() + Send,
) {
    let mut failures = 0;
    let mut looks_until_document = 0;
    loop {
        match look(&client, &upstream).await {
            Some(found) => {
                failures = 0;
                upstream.breaker.lock().unwrap_or_else(PoisonError::into_inner).found_well();
                let came_up = upstream.set_looked(found);
                if came_up || looks_until_document == 0 {
                    let document =
                        fetch::<serde_json::Value>(&client, &upstream, "/openapi.json", MAX_DOCUMENT);
                    if let Some((StatusCode::OK, document)) = document.await {
                        looks_until_document = LOOKS_A_DOCUMENT;
                        if model.set_document(document) {
                            on_document();
                        }
                    }
                }
                looks_until_document = looks_until_document.saturating_sub(1);
            }
            None => {
                failures += 1;
                if failures >= FAILED_LOOKS || upstream.state().up.is_none() {
                    let before = upstream.state();
                    upstream.set_looked(ServiceState {
                        up: Some(false),
                        reason: Some("it does not answer".to_owned()),
                        checkpoint: before.checkpoint,
                        kind: before.kind,
                        ..ServiceState::default()
                    });
                }
            }
        }
        let well = failures == 0;
        tokio::time::sleep(if well { interval } else { interval.min(INTERVAL_WHEN_DOWN) }).await;
    }
}

/// `None` when it does not answer.
async fn look(client: &reqwest::Client, upstream: &Upstream) -> Option<ServiceState> {
    let health = client.get(upstream.url("/health")).timeout(LOOK_LIMIT).send().await.ok()?;
    if !health.status().is_success() {
        return None;
    }
    let root = fetch::<ServiceRoot>(client, upstream, "/", MAX_ANSWER).await;
    let ready = fetch::<Readiness>(client, upstream, "/ready", MAX_ANSWER).await.map(|(_, ready)| ready);
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

/// What a service makes shows in what can be called.
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
    let mut response = client.get(upstream.url(path)).timeout(LOOK_LIMIT).send().await.ok()?;
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
    /// Whether it was not up before and is now.
    fn set_looked(&self, state: ServiceState) -> bool {
        let mut looked = self.looked.write().unwrap_or_else(PoisonError::into_inner);
        let (was, is) = (looked.up, state.up);
        if was != is {
            let (model, upstream) = (&self.model, &self.base);
            match is {
                Some(false) => tracing::warn!(event = "upstream_down", model, upstream),
                _ => tracing::info!(event = "upstream_up", model, upstream),
            }
        }
        *looked = state;
        was != Some(true) && is == Some(true)
    }
}
