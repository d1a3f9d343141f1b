use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde::Deserialize;

use crate::AuthError;
use crate::key::VerifyingKey;

/// Maximum number of keys that are read from one set.
const MAX_KEYS: usize = 64;

/// The keys in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySet {
    pub(crate) keys: Vec<VerifyingKey>,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a JWKS. Keys of other kinds are left out; a set without a usable key is an error.
    pub(crate) fn from_jwks(json: &[u8], origin: &str) -> Result<Self, AuthError> {
        let set: RawSet =
            serde_json::from_slice(json).map_err(|error| AuthError::invalid_key(origin, error))?;
        let mut keys = Vec::new();
        for value in set.keys.into_iter().take(MAX_KEYS) {
            let key = serde_json::from_value::<Jwk>(value)
                .map_err(|error| AuthError::invalid_key(origin, error))
                .and_then(|jwk| VerifyingKey::from_jwk(jwk, origin));
            match key {
                Ok(key) => keys.push(key),
                Err(error) => tracing::debug!(event = "key_left_out", %error),
            }
        }
        if keys.is_empty() {
            return Err(AuthError::invalid_key(origin, "the set has no RS256, ES256 or EdDSA key"));
        }
        Ok(Self { keys })
    }

    /// The keys that a token with this header may have been signed with.
    ///
    /// A token's `kid` must match the key's; a key without an id (a PEM file, a secret) matches every `kid`.
    /// A token without `kid` may be signed with any key of its algorithm.
    pub(crate) fn candidates<'a>(
        &'a self,
        algorithm: &'a str,
        id: Option<&'a str>,
    ) -> impl Iterator<Item = &'a VerifyingKey> {
        self.keys.iter().filter(move |key| {
            let same_id = match (id, &key.id) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            };
            same_id && algorithm_name(key.algorithm) == algorithm
        })
    }

    /// Whether both have the same keys in the same order. Shared secrets come from the configuration and do not change.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let facts = |key: &VerifyingKey| (key.id.clone(), key.algorithm, key.public.clone());
        self.keys.iter().map(facts).eq(other.keys.iter().map(facts))
    }

    pub(crate) fn public(&self) -> JwkSet {
        JwkSet { keys: self.keys.iter().filter_map(|key| key.public.clone()).collect() }
    }
}

fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::RS256 => "RS256",
        Algorithm::ES256 => "ES256",
        Algorithm::EdDSA => "EdDSA",
        // `VerifyingKey` never has another algorithm; no token can name this one.
        _ => "",
    }
}
