//! The service's model in OpenAI's model list.

use actix_web::{HttpRequest, HttpResponse, web};
use videosdgx_api::openai::{Model, ModelKind, ModelList};
use videosdgx_shell::{Caller, HandlerResult, Read};

use crate::service::TextService;

async fn model(service: &TextService) -> HandlerResult<Model> {
    let described = service.describe().await?;
    Ok(Model {
        id: service.name().to_owned(),
        object: "model".to_owned(),
        created: service.started_at,
        owned_by: "videosdgx".to_owned(),
        available: described.is_ok() && !service.shell.drain.has_begun(),
        checkpoint: described.ok().map(|model| model.checkpoint),
        kind: Some(ModelKind::Text),
    })
}

/// The model of this service, as a list
#[utoipa::path(get, path = "/v1/models", tag = "completions", responses((status = 200, body = ModelList)))]
pub(crate) async fn list(_: Caller<Read>, service: web::Data<TextService>) -> HandlerResult {
    let data = vec![model(&service).await?];
    Ok(HttpResponse::Ok().json(ModelList { object: "list".to_owned(), data }))
}

/// One model
#[utoipa::path(get, path = "/v1/models/{id}", tag = "completions",
    params(("id" = String, Path, description = "The model's name")), responses((status = 200, body = Model)))]
pub(crate) async fn retrieve(
    _: Caller<Read>,
    request: HttpRequest,
    service: web::Data<TextService>,
) -> HandlerResult {
    let service = service.into_inner();
    service.check_model(request.match_info().get("id")).await?;
    Ok(HttpResponse::Ok().json(model(&service).await?))
}
