//! `/info` of a text service.

use actix_web::{HttpResponse, web};
use videosdgx_api::{TextInfo, ToolCallForm};
use videosdgx_shell::{Caller, HandlerResult, Read, VERSION, hide_folders, run_blocking};
use videosdgx_text::TextAssets;

use crate::{backend::ErasedBackend, service::TextService};

/// System, model, loader, engine
#[utoipa::path(get, path = "/info", tag = "status", responses((status = 200, body = TextInfo)))]
pub(crate) async fn info(_: Caller<Read>, service: web::Data<TextService>) -> HandlerResult {
    let shared = service.clone().into_inner();
    let (described, tool_calls, system) = run_blocking(move || {
        (shared.backend.describe(), tool_calls(&*shared.backend), shared.shell.host.report())
    })
    .await?;
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
        tool_calls,
        loader: service.shell.loader.report(),
        engine: service.engine_report(),
    }))
}

/// How the checkpoint calls tools. What is wrong with a checkpoint is said in `model_error`.
fn tool_calls(backend: &dyn ErasedBackend) -> Option<ToolCallForm> {
    let assets = TextAssets::open(backend.location().ok()?).ok()?;
    let (format, generic) = assets.tool_format().ok()??;
    Some(ToolCallForm { form: format.as_str().to_owned(), generic })
}
