use secrecy::ExposeSecret;
use videosdgx_auth::AuthConfig;
use videosdgx_client::mint;

use crate::{
    args::Token,
    failure::{Exit, Failure},
};

pub(crate) fn run(command: Token) -> Result<(), Failure> {
    let mut config = AuthConfig::from_env().map_err(|error| Failure::new(Exit::Local, error.to_string()))?;
    config.dir = command.auth_dir.or(config.dir);
    let token = mint(&config, &command.subject, command.scope, command.ttl)?;
    // The only place where a token is printed.
    println!("{}", token.expose_secret());
    Ok(())
}
