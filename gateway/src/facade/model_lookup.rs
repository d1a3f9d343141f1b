//! Finding the model of a request.

use std::sync::Arc;

use videosdgx_api::Code;
use videosdgx_api::openai::ModelKind;

use crate::Gateway;
use crate::failure::Failure;
use crate::upstream::Model;

/// The model with this name, or the only one that serves a checkpoint with this name; without a name the only model of
/// this kind.
pub(super) fn find_model<'a>(
    gateway: &'a Gateway,
    name: Option<&str>,
    kind: ModelKind,
) -> Result<&'a Arc<Model>, Failure> {
    let Some(name) = name else {
        let mut models = gateway.models.of_kind(kind);
        return match (models.next(), models.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(missing_model(gateway, kind)),
        };
    };
    let model = match gateway.models.get(name) {
        Some(model) => model,
        None => by_checkpoint(gateway, name, kind)?,
    };
    match model.kind() {
        Some(found) if found != kind => {
            let detail = format!("{} makes {}; {}", model.name, product(found), names(gateway, kind));
            Err(Failure::field("model", detail))
        }
        _ => Ok(model),
    }
}

/// The refusal of a request without a model.
pub(super) fn missing_model(gateway: &Gateway, kind: ModelKind) -> Failure {
    Failure::field("model", format!("model is missing; {}", names(gateway, kind)))
}

fn by_checkpoint<'a>(gateway: &'a Gateway, name: &str, kind: ModelKind) -> Result<&'a Arc<Model>, Failure> {
    let mut serving = gateway.models.iter().filter(|model| model.checkpoint().as_deref() == Some(name));
    match (serving.next(), serving.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => {
            let detail = format!("several models serve this checkpoint; {}", names(gateway, kind));
            Err(Failure::field("model", detail))
        }
        _ => {
            let failure = Failure::new(
                Code::ModelNotFound,
                format!("there is no such model; {}", names(gateway, kind)),
            );
            Err(failure.map(|problem| problem.field = Some("model".to_owned())))
        }
    }
}

fn product(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Text => "text",
        ModelKind::Video => "videos",
    }
}

/// The models of this kind, for error messages.
fn names(gateway: &Gateway, kind: ModelKind) -> String {
    let names: Vec<&str> = gateway.models.of_kind(kind).map(|model| model.name.as_str()).collect();
    match names.as_slice() {
        [] => format!("no model here makes {}", product(kind)),
        [only] => format!("{} is made by {only}", product(kind)),
        several => format!("{} is made by {}", product(kind), several.join(", ")),
    }
}
