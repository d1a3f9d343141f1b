use videosdgx_api::openai::ModelKind;
use videosdgx_client::{Client, find_token};

use crate::{
    args::Server,
    failure::{Exit, Failure},
};

/// The default among several models of a kind.
fn default_model(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Text => "qwen3-4b",
        ModelKind::Video => "wan21",
    }
}

/// A client with the token of [`find_token`], if there is one.
pub(crate) fn client(server: &Server) -> Result<Client, Failure> {
    Ok(Client::new(&server.url, find_token(&user())?)?)
}

/// Name of the operating system's user, the default subject of tokens.
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub(crate) fn user() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let sound = !name.is_empty()
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if sound { name } else { "operator".to_owned() }
}

/// The named model, else the default of its kind, else the only one.
pub(crate) async fn model(
    client: &Client,
    named: Option<String>,
    kind: ModelKind,
) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    let models = client.models().await?.data;
    // A model whose kind is not known yet may be of this kind.
    let fitting = models.iter().filter(|model| model.kind.is_none_or(|known| known == kind));
    let ids: Vec<&str> = fitting.map(|model| model.id.as_str()).collect();
    match ids.as_slice() {
        _ if ids.contains(&default_model(kind)) => Ok(default_model(kind).to_owned()),
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::new(Exit::Unavailable, format!("the gateway has no {} model", kind.as_str()))),
        several => {
            Err(Failure::new(Exit::Refused, format!("name the model with --model: {}", several.join(", "))))
        }
    }
}
