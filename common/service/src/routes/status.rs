//! What the service says of itself.

use actix_web::{HttpResponse, web};
use videosdgx_api::{Health, Info, LoaderState, QueueStatus, Readiness, ServiceRoot};

use super::endpoints;
use crate::{
    identity::{Caller, Read},
    problem_response::Answered,
    service::{Service, VERSION, off_the_reactor},
};

/// Name, checkpoint, endpoints
#[utoipa::path(get, path = "/", tag = "status", responses((status = 200, body = ServiceRoot)))]
pub(crate) async fn root(service: web::Data<Service>) -> Answered {
    let engine = std::sync::Arc::clone(&service.engine);
    let described = off_the_reactor(move || engine.describe()).await?;
    Ok(HttpResponse::Ok().json(ServiceRoot {
        name: service.name().to_owned(),
        version: VERSION.to_owned(),
        checkpoint: described.ok().map(|model| model.checkpoint),
        endpoints: endpoints(),
    }))
}

/// The process answers; touches nothing else
#[utoipa::path(get, path = "/health", tag = "status", responses((status = 200, body = Health)))]
pub(crate) async fn health() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok".to_owned() })
}

/// Whether the model is loaded, and why not
///
/// The model is loaded by the first job or by `POST /load`, so a fresh service is not ready and takes jobs all the same:
/// `accepting_jobs` says that.
#[utoipa::path(get, path = "/ready", tag = "status", responses(
    (status = 200, description = "The model is loaded", body = Readiness),
    (status = 503, description = "It is not, or the service is shutting down", body = Readiness),
))]
pub(crate) async fn ready(service: web::Data<Service>) -> HttpResponse {
    let loader = service.loader.report();
    let draining = service.drain.has_begun();
    let reason = if draining {
        Some("the service is shutting down".to_owned())
    } else {
        match loader.state {
            LoaderState::Loaded => None,
            LoaderState::Unloaded => {
                Some("the model is not loaded; the first job or POST /load loads it".to_owned())
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
    response.json(Readiness { ready: reason.is_none(), reason, accepting_jobs: !draining, loader })
}

/// System, model, loader, queue
#[utoipa::path(get, path = "/info", tag = "status", responses((status = 200, body = Info)))]
pub(crate) async fn info(_: Caller<Read>, service: web::Data<Service>) -> Answered {
    let queue = service.queue_status().await?;
    let shared = service.clone().into_inner();
    let (described, system) =
        off_the_reactor(move || (shared.engine.describe(), shared.host.report())).await?;
    let (model, model_error) = match described {
        Ok(model) => (Some(model), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(HttpResponse::Ok().json(Info {
        name: service.name().to_owned(),
        version: VERSION.to_owned(),
        checkpoint: model.as_ref().map(|model| model.checkpoint.clone()),
        system,
        model,
        model_error,
        loader: service.loader.report(),
        queue,
    }))
}

/// Depth by state and priority, estimated wait
#[utoipa::path(get, path = "/queue/status", tag = "status", responses((status = 200, body = QueueStatus)))]
pub(crate) async fn queue(_: Caller<Read>, service: web::Data<Service>) -> Answered {
    Ok(HttpResponse::Ok().json(service.queue_status().await?))
}
