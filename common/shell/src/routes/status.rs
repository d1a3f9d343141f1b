//! Status routes of every service.

use actix_web::{HttpResponse, web};
use videosdgx_api::{Health, LoaderState, Readiness, ServiceRoot};

use crate::{HandlerResult, Shell, VERSION, hide_folders, run_blocking};

/// Name, checkpoint, endpoints
#[utoipa::path(get, path = "/", tag = "status", responses((status = 200, body = ServiceRoot)))]
pub async fn root(shell: web::Data<Shell>) -> HandlerResult {
    let info = std::sync::Arc::clone(&shell.info);
    let checkpoint = run_blocking(move || info.checkpoint()).await?;
    Ok(HttpResponse::Ok().json(ServiceRoot {
        name: shell.name().to_owned(),
        version: VERSION.to_owned(),
        checkpoint: checkpoint.ok(),
        endpoints: shell.info.api().endpoints().to_vec(),
    }))
}

/// Whether the process responds; nothing else is checked
#[utoipa::path(get, path = "/health", tag = "status", responses((status = 200, body = Health)))]
pub async fn health() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok".to_owned() })
}

/// Whether the model is loaded; if not, the reason
///
/// The model is loaded by the first job or by `POST /load`. A service that has just started is therefore not ready, but accepts
/// jobs: see `accepting_jobs`.
#[utoipa::path(get, path = "/ready", tag = "status", responses(
    (status = 200, description = "The model is loaded", body = Readiness),
    (status = 503, description = "It is not, the service is shutting down, or one of its threads has failed", body = Readiness),
))]
pub async fn ready(shell: web::Data<Shell>) -> HttpResponse {
    let loader = shell.loader.report();
    let draining = shell.drain.has_begun();
    let mut usable = true;
    let failed = videosdgx_threads::failed_thread();
    let device = videosdgx_model::failed_device();
    let reason = if let Some(failed) = failed {
        Some(format!("{failed}; the process has to be started again"))
    } else if let Some(reason) = device {
        Some(format!("the device failed, and the service starts again: {reason}"))
    } else if draining {
        Some("the service is shutting down".to_owned())
    } else {
        match loader.state {
            LoaderState::Loaded => None,
            LoaderState::Unloaded => {
                let info = std::sync::Arc::clone(&shell.info);
                match run_blocking(move || info.checkpoint()).await {
                    Ok(Err(error)) => {
                        usable = false;
                        Some(hide_folders(&error.to_string()).into_owned())
                    }
                    _ => Some("the model is not loaded; the first job or POST /load loads it".to_owned()),
                }
            }
            LoaderState::Loading => Some("the model is being loaded".to_owned()),
            LoaderState::Unloading => Some("the model is being unloaded".to_owned()),
            LoaderState::Failed => {
                let why = loader.error.as_deref().unwrap_or("unknown");
                Some(format!("the last load failed: {why}"))
            }
        }
    };
    let mut response = if reason.is_none() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(Readiness {
        ready: reason.is_none(),
        reason,
        accepting_jobs: usable && !draining && failed.is_none() && device.is_none(),
        loader,
    })
}
