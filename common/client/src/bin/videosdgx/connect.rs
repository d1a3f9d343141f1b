use videosdgx_api::openai::ModelKind;
use videosdgx_client::{Client, find_token};

use crate::{
    args::Server,
    failure::{Exit, Failure},
};

/// The model when there are several of its kind and none is named.
fn first_choice(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Text => "qwen3-4b",
        ModelKind::Video => "wan21",
    }
}

/// A client with whatever token can be had.
pub(crate) fn client(server: &Server) -> Result<Client, Failure> {
    Ok(Client::new(&server.url, find_token(&user())?)?)
}

/// Who is at the keyboard: the subject of tokens.
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub(crate) fn user() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let sound = !name.is_empty()
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if sound { name } else { "operator".to_owned() }
}

/// The named model, else the first choice of its kind, else the only one.
pub(crate) async fn model(
    client: &Client,
    named: Option<String>,
    kind: ModelKind,
) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    let models = client.models().await?.data;
    // One that has not said yet what it makes may be the right one.
    let fitting = models.iter().filter(|model| model.kind.is_none_or(|made| made == kind));
    let ids: Vec<&str> = fitting.map(|model| model.id.as_str()).collect();
    match ids.as_slice() {
        _ if ids.contains(&first_choice(kind)) => Ok(first_choice(kind).to_owned()),
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::new(
            Exit::Unavailable,
            format!("the gateway has no model that makes {}", kind.as_str()),
        )),
        several => {
            Err(Failure::new(Exit::Refused, format!("name the model with --model: {}", several.join(", "))))
        }
    }
}
