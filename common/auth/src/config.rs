use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::{AuthError, DEFAULT_AUDIENCE, DEFAULT_ISSUER};

/// The sources of keys, and the required claims of a token.
///
/// Several sources may be configured; a token that is valid for any of them is accepted. Without any, the key
/// folder is used, so authentication is never disabled.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// `VIDEOSDGX_AUTH_DIR`: the key folder.
    pub dir: Option<PathBuf>,
    /// `VIDEOSDGX_JWT_HS256_SECRET`, or the content of `VIDEOSDGX_JWT_HS256_SECRET_FILE`.
    pub hs256_secret: Option<SecretString>,
    /// `VIDEOSDGX_JWT_PUBLIC_KEY_FILE`: a PEM public key; RSA is RS256, P-256 is ES256, Ed25519 is EdDSA.
    pub public_key_file: Option<PathBuf>,
    /// `VIDEOSDGX_JWKS_FILE`.
    pub jwks_file: Option<PathBuf>,
    /// `VIDEOSDGX_JWKS_URL`.
    pub jwks_url: Option<String>,
    /// `VIDEOSDGX_JWT_ISSUER`: what `iss` must be.
    pub issuer: String,
    /// `VIDEOSDGX_JWT_AUDIENCE`: what `aud` must be or contain.
    pub audience: String,
    /// A key that is removed from the key folder, JWKS file or JWKS URL is refused within this time, and they are not read more
    /// often than at half of it; for a token with an unknown key at most once within it. 60 s.
    pub refresh_interval: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            dir: None,
            hs256_secret: None,
            public_key_file: None,
            jwks_file: None,
            jwks_url: None,
            issuer: DEFAULT_ISSUER.to_owned(),
            audience: DEFAULT_AUDIENCE.to_owned(),
            refresh_interval: Duration::from_secs(60),
        }
    }
}

impl AuthConfig {
    /// Folder used when no key source is configured.
    pub const DEFAULT_DIR: &'static str = "state/auth";

    /// The configuration with only a key folder.
    pub fn with_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: Some(dir.into()), ..Self::default() }
    }

    /// Reads the environment.
    ///
    /// # Errors
    /// When a secret file cannot be read or two variables contradict each other.
    #[expect(clippy::disallowed_methods, reason = "settings are read here")]
    pub fn from_env() -> Result<Self, AuthError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads variables by a function, for tests. Empty values count as not set.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, AuthError> {
        let get = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let secret = get("VIDEOSDGX_JWT_HS256_SECRET").map(SecretString::from);
        let secret_file = get("VIDEOSDGX_JWT_HS256_SECRET_FILE").map(PathBuf::from);
        let hs256_secret = match (secret, secret_file) {
            (Some(_), Some(_)) => {
                return Err(AuthError::Configuration {
                    name: "VIDEOSDGX_JWT_HS256_SECRET_FILE",
                    reason: "set it or VIDEOSDGX_JWT_HS256_SECRET, not both".to_owned(),
                });
            }
            (secret, None) => secret,
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path).map_err(AuthError::file("read", &path))?;
                Some(SecretString::from(text.trim_end_matches(['\r', '\n'])))
            }
        };
        let defaults = Self::default();
        let config = Self {
            dir: get("VIDEOSDGX_AUTH_DIR").map(PathBuf::from),
            hs256_secret,
            public_key_file: get("VIDEOSDGX_JWT_PUBLIC_KEY_FILE").map(PathBuf::from),
            jwks_file: get("VIDEOSDGX_JWKS_FILE").map(PathBuf::from),
            jwks_url: get("VIDEOSDGX_JWKS_URL"),
            issuer: get("VIDEOSDGX_JWT_ISSUER").unwrap_or(defaults.issuer),
            audience: get("VIDEOSDGX_JWT_AUDIENCE").unwrap_or(defaults.audience),
            refresh_interval: defaults.refresh_interval,
        };
        if let Some(url) = &config.jwks_url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            return Err(AuthError::Configuration {
                name: "VIDEOSDGX_JWKS_URL",
                reason: "it must start with https:// (or http:// inside a trusted network)".to_owned(),
            });
        }
        Ok(config)
    }

    /// The key folder in use: the configured one, or the default one when no other key source is configured.
    pub fn key_dir(&self) -> Option<PathBuf> {
        let other_source = self.hs256_secret.is_some()
            || self.public_key_file.is_some()
            || self.jwks_file.is_some()
            || self.jwks_url.is_some();
        match &self.dir {
            Some(dir) => Some(dir.clone()),
            None if other_source => None,
            None => Some(PathBuf::from(Self::DEFAULT_DIR)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<AuthConfig, AuthError> {
        AuthConfig::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_configured_means_the_key_folder_and_another_source_replaces_it() {
        assert_eq!(config(&[]).unwrap().key_dir(), Some(PathBuf::from(AuthConfig::DEFAULT_DIR)));
        assert!(config(&[("VIDEOSDGX_AUTH_DIR", " ")]).unwrap().key_dir().is_some());
        assert_eq!(config(&[("VIDEOSDGX_JWKS_FILE", "k.json")]).unwrap().key_dir(), None);
        let both = config(&[("VIDEOSDGX_JWKS_FILE", "k.json"), ("VIDEOSDGX_AUTH_DIR", "a")]).unwrap();
        assert_eq!(both.key_dir(), Some(PathBuf::from("a")));
    }

    #[test]
    fn contradictions_are_named_and_secrets_never_printed() {
        let error = config(&[
            ("VIDEOSDGX_JWT_HS256_SECRET", "canary-secret"),
            ("VIDEOSDGX_JWT_HS256_SECRET_FILE", "f"),
        ])
        .unwrap_err();
        assert!(error.to_string().contains("VIDEOSDGX_JWT_HS256_SECRET_FILE"));
        assert!(config(&[("VIDEOSDGX_JWKS_URL", "file:///etc/passwd")]).is_err());
        let config = config(&[("VIDEOSDGX_JWT_HS256_SECRET", "canary-secret")]).unwrap();
        assert!(!format!("{config:?}").contains("canary"));
    }
}
