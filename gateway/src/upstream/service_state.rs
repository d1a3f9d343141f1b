use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use videosdgx_api::openai::ModelKind;

/// What the last look at a service found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct ServiceState {
    /// Whether `/health` answered; unknown before the first look.
    pub(crate) up: Option<bool>,
    /// Whether its model is loaded and jobs are taken.
    pub(crate) ready: bool,
    /// Why not.
    pub(crate) reason: Option<String>,
    /// The checkpoint it serves.
    pub(crate) checkpoint: Option<String>,
    /// What its model makes.
    pub(crate) kind: Option<ModelKind>,
    /// State of its lazy loader: `unloaded`, `loading`, `loaded`, `unloading`, `failed`.
    pub(crate) loader: Option<String>,
    /// The breaker in front of it: `closed`, `half-open`, `open`.
    pub(crate) breaker: String,
    /// Requests under way to it.
    pub(crate) in_flight: usize,
}

/// Looks that must fail in a row before a service counts as down.
pub(crate) const FAILED_LOOKS: u32 = 2;
/// Longest time of one look.
pub(crate) const LOOK_LIMIT: Duration = Duration::from_secs(2);
