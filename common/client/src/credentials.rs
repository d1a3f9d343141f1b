use std::{path::Path, time::Duration};

use secrecy::SecretString;
use videosdgx_auth::{AuthConfig, AuthError, KeyFolder, Scope, Scopes, Signer};

/// Lifetime of a token that a command mints for itself.
const OWN_TTL: Duration = Duration::from_secs(3600);

/// Why no token is available.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Configuration or key is invalid.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// There is no signing key.
    #[error(
        "no key to mint a token with: {0}; run this where the gateway's key folder is (VIDEOSDGX_AUTH_DIR), or \
         set VIDEOSDGX_TOKEN to a token"
    )]
    NoKey(String),
}

/// The token for calls: `VIDEOSDGX_TOKEN`, else one minted for an hour with the key folder, if it is readable.
///
/// # Errors
/// If the key exists and is invalid. `Ok(None)` if there is no key.
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn find_token(subject: &str) -> Result<Option<SecretString>, CredentialsError> {
    if let Some(token) = std::env::var("VIDEOSDGX_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
        return Ok(Some(token.into()));
    }
    match mint(&AuthConfig::from_env()?, subject, [Scope::Generate, Scope::Read].into(), OWN_TTL) {
        Ok(token) => Ok(Some(token)),
        Err(CredentialsError::NoKey(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A token for `subject`, signed with the key that `config` names. Never creates a key: the gateway does.
///
/// # Errors
/// [`CredentialsError::NoKey`] if the key does not exist or is not readable.
pub fn mint(
    config: &AuthConfig,
    subject: &str,
    scopes: Scopes,
    ttl: Duration,
) -> Result<SecretString, CredentialsError> {
    let signer = match (&config.hs256_secret, config.key_dir()) {
        (Some(secret), _) => Signer::from_hs256_secret(secret)?,
        (None, Some(dir)) => folder_signer(&dir)?,
        (None, None) => {
            let why = "tokens are issued by another party (public keys or JWKS are configured)";
            return Err(CredentialsError::NoKey(why.to_owned()));
        }
    };
    let signer = signer.with_issuer_and_audience(&config.issuer, &config.audience);
    Ok(signer.mint(subject, scopes, ttl)?)
}

fn folder_signer(dir: &Path) -> Result<Signer, CredentialsError> {
    let no_key = |what: &str| CredentialsError::NoKey(format!("{} {what}", dir.display()));
    if !dir.join("signing-key.pem").exists() {
        return Err(no_key("contains no signing key"));
    }
    KeyFolder::load_or_create(dir)?
        .signer()
        .cloned()
        .ok_or_else(|| no_key("contains a key that you may not read"))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use videosdgx_auth::Verifier;

    use super::*;

    #[test]
    fn no_key_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let config = AuthConfig::with_dir(dir.path().join("auth"));
        let error = mint(&config, "ada", Scopes::all(), OWN_TTL).unwrap_err();
        assert!(matches!(error, CredentialsError::NoKey(_)), "{error}");
        assert!(!dir.path().join("auth").exists());
    }

    #[tokio::test]
    async fn a_minted_token_has_its_scopes() {
        let dir = tempfile::tempdir().unwrap();
        let config = AuthConfig::with_dir(dir.path());
        KeyFolder::load_or_create(dir.path()).unwrap();
        let token = mint(&config, "ada", [Scope::Read].into(), OWN_TTL).unwrap();
        let header = format!("Bearer {}", token.expose_secret());
        let principal =
            Verifier::from_config(&config).unwrap().authenticate([header.as_bytes()]).await.unwrap();
        assert!(principal.require(Scope::Read).is_ok());
        assert!(principal.require(Scope::Generate).is_err());
    }
}
