//! `/info` of a text service.

use actix_web::{HttpResponse, web};
use videosdgx_api::{TextInfo, TextModelDescription, ToolCallForm};
use videosdgx_model::ModelError;
use videosdgx_shell::{Caller, HandlerResult, Read, VERSION, hide_folders, run_blocking};

use crate::{checkpoints::Checkpoints, service::TextService};

/// System, model, loader, engine
#[utoipa::path(get, path = "/info", tag = "status", responses((status = 200, body = TextInfo)))]
pub(crate) async fn info(_: Caller<Read>, service: web::Data<TextService>) -> HandlerResult {
    let shared = service.clone().into_inner();
    let (described, system) =
        run_blocking(move || (described(&shared.checkpoints), shared.shell.host.report())).await?;
    let Described { model, tool_calls, error } = described;
    let model_error = error.map(|error| hide_folders(&error.to_string()).into_owned());
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

/// What is known of the checkpoint, and what is wrong with it.
struct Described {
    model: Option<TextModelDescription>,
    tool_calls: Option<ToolCallForm>,
    error: Option<ModelError>,
}

/// Opens the checkpoint as a request would, so that what would make requests fail is said here.
fn described(checkpoints: &Checkpoints) -> Described {
    let model = match checkpoints.describe() {
        Ok(model) => Some(model),
        Err(error) => return Described { model: None, tool_calls: None, error: Some(error) },
    };
    let tool_calls = checkpoints.current().map(|opened| {
        let (format, generic) = opened.tool_format?;
        Some(ToolCallForm { form: format.as_str().to_owned(), generic })
    });
    match tool_calls {
        Ok(tool_calls) => Described { model, tool_calls, error: None },
        Err(error) => Described { model, tool_calls: None, error: Some(error) },
    }
}
