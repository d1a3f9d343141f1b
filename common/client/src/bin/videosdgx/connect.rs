use videosdgx_client::{Client, find_token};

use crate::{
    args::Server,
    failure::{Exit, Failure},
};

/// The model when there are several and none is named.
const FIRST_CHOICE: &str = "wan21";

/// A client with whatever token can be had.
pub(crate) fn client(server: &Server) -> Result<Client, Failure> {
    Ok(Client::new(&server.url, find_token(&user())?)?)
}

/// Who is at the keyboard: the subject of tokens.
pub(crate) fn user() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let sound = !name.is_empty()
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if sound { name } else { "operator".to_owned() }
}

/// The named model, else wan21, else the only one.
pub(crate) async fn model(client: &Client, named: Option<String>) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    let models = client.models().await?.data;
    let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
    match ids.as_slice() {
        _ if ids.contains(&FIRST_CHOICE) => Ok(FIRST_CHOICE.to_owned()),
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::new(Exit::Unavailable, "the gateway has no model")),
        several => {
            Err(Failure::new(Exit::Refused, format!("name the model with --model: {}", several.join(", "))))
        }
    }
}
