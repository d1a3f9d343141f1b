use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::claims::check_subject;
use crate::key::{VerifyingKey, thumbprint};
use crate::{AuthError, DEFAULT_AUDIENCE, DEFAULT_ISSUER, Scopes};

/// Mints tokens. Its key never appears in `Debug` output.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    public: Option<Jwk>,
    issuer: String,
    audience: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    scope: String,
}

impl Signer {
    /// A new Ed25519 key as PKCS#8 PEM.
    pub(crate) fn generate_pem() -> Result<SecretString, AuthError> {
        let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|_| AuthError::invalid_key("a new key", "no randomness"))?;
        let body = base64::engine::general_purpose::STANDARD.encode(document.as_ref());
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n").into())
    }

    /// Signs with an Ed25519 private key (PKCS#8 PEM).
    pub fn from_ed25519_pem(pem: &SecretString, origin: &str) -> Result<Self, AuthError> {
        let key = EncodingKey::from_ed_pem(pem.expose_secret().as_bytes())
            .map_err(|_| AuthError::invalid_key(origin, "it is no Ed25519 private key in PEM"))?;
        let mut public = Jwk::from_encoding_key(&key, Algorithm::EdDSA)
            .map_err(|_| AuthError::invalid_key(origin, "it is no Ed25519 private key in PEM"))?;
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        public.common.key_id = Some(thumbprint(&public)?);
        Ok(Self::new(key, Algorithm::EdDSA, Some(public)))
    }

    /// Signs with a shared secret (HS256), at least 32 bytes.
    pub fn from_hs256_secret(secret: &SecretString) -> Result<Self, AuthError> {
        VerifyingKey::from_secret(secret)?;
        let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
        Ok(Self::new(key, Algorithm::HS256, None))
    }

    fn new(key: EncodingKey, algorithm: Algorithm, public: Option<Jwk>) -> Self {
        let (issuer, audience) = (DEFAULT_ISSUER.to_owned(), DEFAULT_AUDIENCE.to_owned());
        Self { key, algorithm, public, issuer, audience }
    }

    /// Mints for another issuer and audience than the defaults.
    pub fn with_issuer_and_audience(
        mut self,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> Self {
        self.issuer = issuer.into();
        self.audience = audience.into();
        self
    }

    pub(crate) fn public(&self) -> Option<&Jwk> {
        self.public.as_ref()
    }

    /// A token for `subject` that is valid from now for `ttl` (1 second to 10 years).
    pub fn mint(
        &self,
        subject: &str,
        scopes: impl Into<Scopes>,
        ttl: Duration,
    ) -> Result<SecretString, AuthError> {
        let fail = |reason: &str| AuthError::Mint { reason: reason.to_owned() };
        check_subject(subject).map_err(fail)?;
        let scopes = scopes.into();
        if scopes == Scopes::NONE {
            return Err(fail("a token needs at least one scope"));
        }
        if !(1..=10 * 366 * 86_400).contains(&ttl.as_secs()) {
            return Err(fail("the lifetime must be between 1 second and 10 years"));
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|_| fail("the clock is before 1970"))?
            .as_secs();
        let mut random = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| fail("no randomness"))?;
        let claims = MintedClaims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: subject,
            iat: now,
            nbf: now,
            exp: now + ttl.as_secs(),
            jti: base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random),
            scope: scopes.to_string(),
        };
        let mut header = Header::new(self.algorithm);
        header.kid = self.public.as_ref().and_then(|public| public.common.key_id.clone());
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map(SecretString::from)
            .map_err(|error| fail(&error.to_string()))
    }
}
