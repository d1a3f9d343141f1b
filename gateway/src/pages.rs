//! The gateway's own pages: root, health, readiness, metrics, keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;
use utoipa::ToSchema;
use videosdgx_api::openai::ModelKind;
use videosdgx_api::{Code, Health};

use crate::Gateway;
use crate::failure::Failure;
use crate::upstream::ServiceState;

/// Answer of `GET /`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GatewayRoot {
    /// `videosdgx`.
    name: String,
    /// Program version.
    version: String,
    /// The configured models.
    models: Vec<ModelLink>,
    /// Paths of interest.
    links: Links,
}

/// A model and its path.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelLink {
    /// Name to use as `model`.
    name: String,
    /// The checkpoint it serves.
    checkpoint: Option<String>,
    /// Whether one of its services is up.
    available: bool,
    /// What it generates; unknown before a service of it has answered.
    kind: Option<ModelKind>,
    /// Path of its native API.
    path: String,
}

/// Paths of the gateway.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Links {
    /// Swagger UI.
    docs: &'static str,
    /// The OpenAPI document of the gateway and all services.
    openapi: &'static str,
    /// OpenAI's API for text.
    chat: &'static str,
    /// OpenAI's API for videos.
    videos: &'static str,
    /// The public keys that verify tokens.
    jwks: &'static str,
}

/// Name, version, models and links.
#[utoipa::path(get, path = "/", operation_id = "root", tag = "Gateway", security(()),
    responses((status = 200, description = "Name, models, links.", body = GatewayRoot)))]
pub(crate) async fn root(State(gateway): State<Arc<Gateway>>) -> Json<GatewayRoot> {
    let models = gateway.models.iter().map(|model| ModelLink {
        name: model.name.clone(),
        checkpoint: model.checkpoint(),
        available: model.is_available(),
        kind: model.kind(),
        path: format!("/models/{}/", model.name),
    });
    Json(GatewayRoot {
        name: "videosdgx".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        models: models.collect(),
        links: Links {
            docs: "/docs/",
            openapi: "/openapi.json",
            chat: "/v1/chat/completions",
            videos: "/v1/videos",
            jwks: "/.well-known/jwks.json",
        },
    })
}

/// The process answers; nothing else is checked.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "Gateway", security(()),
    responses((status = 200, description = "The process answers.", body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// Answer of `GET /ready`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GatewayReadiness {
    /// Whether requests are accepted and at least one service is up.
    ready: bool,
    /// Why it is not ready.
    reason: Option<String>,
    /// Each model and its services, as of the last health check.
    models: Vec<ModelReadiness>,
}

/// Readiness of one model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelReadiness {
    /// Name of the model.
    name: String,
    /// Whether one of its services is up.
    available: bool,
    /// Its services, in the order of the configuration.
    services: Vec<ServiceState>,
}

/// Whether requests are accepted, with the state of each service.
#[utoipa::path(get, path = "/ready", operation_id = "ready", tag = "Gateway", security(()),
    responses((status = 200, description = "Ready.", body = GatewayReadiness),
        (status = 503, description = "Not ready; `reason` says why.", body = GatewayReadiness)))]
pub(crate) async fn ready(State(gateway): State<Arc<Gateway>>) -> (StatusCode, Json<GatewayReadiness>) {
    let models: Vec<ModelReadiness> = gateway
        .models
        .iter()
        .map(|model| {
            let services: Vec<ServiceState> =
                model.upstreams.iter().map(|upstream| upstream.state()).collect();
            let available = services.iter().any(|service| service.up == Some(true));
            ModelReadiness { name: model.name.clone(), available, services }
        })
        .collect();
    let reason = if gateway.is_draining() {
        Some("shutting down")
    } else if models.is_empty() {
        Some("no model is configured")
    } else if models.iter().any(|model| model.available) {
        None
    } else {
        Some("no service answers")
    };
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (
        status,
        Json(GatewayReadiness { ready: reason.is_none(), reason: reason.map(ToOwned::to_owned), models }),
    )
}

/// Metrics of the gateway as Prometheus text.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "Gateway",
    responses((status = 200, description = "Requests, durations, limits, services.",
        content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Result<Response, Failure> {
    let text = gateway
        .metrics
        .encode(&gateway.models, gateway.sockets.count())
        .map_err(|_| Failure::new(Code::Internal, "the metrics cannot be written"))?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// A JSON Web Key Set (RFC 7517).
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of a document that another crate writes")]
pub(crate) struct KeySetDocument {
    /// The keys.
    keys: Vec<std::collections::HashMap<String, String>>,
}

/// The public keys that verify tokens.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "jwks", tag = "Gateway", security(()),
    responses((status = 200, description = "The key set.", body = KeySetDocument)))]
pub(crate) async fn jwks(State(gateway): State<Arc<Gateway>>) -> Response {
    ([(CACHE_CONTROL, "public, max-age=60")], Json(gateway.verifier.public_jwks())).into_response()
}
