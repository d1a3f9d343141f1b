//! Status routes of a video service, in addition to the shell's.

use actix_web::{HttpResponse, web};
use videosdgx_api::{Info, QueueStatus};
use videosdgx_shell::{Caller, HandlerResult, Read, VERSION, hide_folders, run_blocking};

use crate::service::Service;

/// System, model, loader and queue
#[utoipa::path(get, path = "/info", tag = "status", responses((status = 200, body = Info)))]
pub(crate) async fn info(_: Caller<Read>, service: web::Data<Service>) -> HandlerResult {
    let queue = service.queue_status().await?;
    let shared = service.clone().into_inner();
    let (described, system) =
        run_blocking(move || (shared.engine.describe(), shared.shell.host.report())).await?;
    let (model, model_error) = match described {
        Ok(model) => (Some(model), None),
        Err(error) => (None, Some(hide_folders(&error.to_string()).into_owned())),
    };
    Ok(HttpResponse::Ok().json(Info {
        name: service.name().to_owned(),
        version: VERSION.to_owned(),
        checkpoint: model.as_ref().map(|model| model.checkpoint.clone()),
        system,
        model,
        model_error,
        loader: service.shell.loader.report(),
        queue,
    }))
}

/// Queue length by state and priority, and the estimated wait
#[utoipa::path(get, path = "/queue/status", tag = "status", responses((status = 200, body = QueueStatus)))]
pub(crate) async fn queue(_: Caller<Read>, service: web::Data<Service>) -> HandlerResult {
    Ok(HttpResponse::Ok().json(service.queue_status().await?))
}
