//! `/info` of a text service.

use actix_web::{HttpResponse, web};
use videosdgx_api::TextInfo;
use videosdgx_shell::{Caller, HandlerResult, Read, VERSION, hide_folders, run_blocking};

use crate::service::TextService;

/// System, model, loader, engine
#[utoipa::path(get, path = "/info", tag = "status", responses((status = 200, body = TextInfo)))]
pub(crate) async fn info(_: Caller<Read>, service: web::Data<TextService>) -> HandlerResult {
    let shared = service.clone().into_inner();
    let (described, system) =
        run_blocking(move || (shared.backend.describe(), shared.shell.host.report())).await?;
    let (model, model_error) = match described {
        Ok(model) => (Some(model), None),
        Err(error) => (None, Some(hide_folders(&error.to_string()).into_owned())),
    };
    Ok(HttpResponse::Ok().json(TextInfo {
        name: service.name().to_owned(),
        version: VERSION.to_owned(),
        checkpoint: model.as_ref().map(|model| model.checkpoint.clone()),
        system,
        model,
        model_error,
        loader: service.shell.loader.report(),
        engine: service.engine_report(),
    }))
}
