//! Which model a request is for.

use std::sync::Arc;

use videosdgx_api::Code;
use videosdgx_api::openai::ModelKind;

use crate::Gateway;
use crate::failure::Failure;
use crate::upstream::Model;

/// The model of that name, or the one that alone serves the checkpoint of that name; without a name the only one that makes
/// `kind`.
pub(super) fn model<'a>(
    gateway: &'a Gateway,
    name: Option<&str>,
    kind: ModelKind,
) -> Result<&'a Arc<Model>, Failure> {
    let Some(name) = name else {
        let mut makers = gateway.models.making(kind);
        return match (makers.next(), makers.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(Failure::field("model", format!("model is missing; {}", names(gateway, kind)))),
        };
    };
    let model = match gateway.models.get(name) {
        Some(model) => model,
        None => by_checkpoint(gateway, name, kind)?,
    };
    match model.kind() {
        Some(made) if made != kind => {
            let detail = format!("{} makes {}; {}", model.name, product(made), names(gateway, kind));
            Err(Failure::field("model", detail))
        }
        _ => Ok(model),
    }
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

/// For people: what could have been asked for.
fn names(gateway: &Gateway, kind: ModelKind) -> String {
    let names: Vec<&str> = gateway.models.making(kind).map(|model| model.name.as_str()).collect();
    match names.as_slice() {
        [] => format!("no model here makes {}", product(kind)),
        [only] => format!("{} is made by {only}", product(kind)),
        several => format!("{} is made by {}", product(kind), several.join(", ")),
    }
}
