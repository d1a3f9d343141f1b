//! `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use videosdgx_api::openai;

use crate::Gateway;
use crate::failure::Failure;
use crate::native::model_not_found;
use crate::upstream::Model;

/// A model in OpenAI's form.
fn shape(gateway: &Gateway, model: &Model) -> openai::Model {
    openai::Model {
        id: model.name.clone(),
        object: "model".to_owned(),
        created: gateway.started.as_second(),
        owned_by: "videosdgx".to_owned(),
        checkpoint: model.checkpoint(),
        available: model.is_available(),
        kind: model.kind(),
    }
}

/// All models.
#[utoipa::path(get, path = "/v1/models", operation_id = "listModels", tag = "OpenAI",
    responses((status = 200, description = "All models that are configured.", body = openai::ModelList)))]
pub(crate) async fn list_models(State(gateway): State<Arc<Gateway>>) -> Json<openai::ModelList> {
    let data = gateway.models.iter().map(|model| shape(&gateway, model)).collect();
    Json(openai::ModelList { object: "list".to_owned(), data })
}

/// One model.
#[utoipa::path(get, path = "/v1/models/{model}", operation_id = "retrieveModel", tag = "OpenAI",
    params(("model" = String, Path, description = "A name from the list.")),
    responses((status = 200, description = "The model.", body = openai::Model)))]
pub(crate) async fn retrieve_model(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
) -> Result<Json<openai::Model>, Failure> {
    let model = gateway.models.get(&name).ok_or_else(|| model_not_found(&gateway))?;
    Ok(Json(shape(&gateway, model)))
}
