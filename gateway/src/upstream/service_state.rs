use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use videosdgx_api::openai::ModelKind;

/// Result of the last health check of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct ServiceState {
    /// Whether `/health` answered; unknown before the first check.
    pub(crate) up: Option<bool>,
    /// Whether its model is loaded and jobs are taken.
    pub(crate) ready: bool,
    /// Why it is not ready.
    pub(crate) reason: Option<String>,
    /// The checkpoint it serves.
    pub(crate) checkpoint: Option<String>,
    /// What its model generates.
    pub(crate) kind: Option<ModelKind>,
    /// State of its model loader: `unloaded`, `loading`, `loaded`, `unloading`, `failed`.
    pub(crate) loader: Option<String>,
    /// State of its circuit breaker: `closed`, `half-open`, `open`.
    pub(crate) breaker: String,
    /// Requests in flight to it.
    pub(crate) in_flight: usize,
}

/// Health checks that must fail in a row before a service counts as down.
pub(crate) const FAILURES_UNTIL_DOWN: u32 = 2;
/// Timeout of one request of a health check.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
