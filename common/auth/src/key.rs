use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretString};

use crate::AuthError;

/// Shortest HS256 secret, in bytes (RFC 7518 section 3.2: no shorter than the hash).
const MIN_SECRET_BYTES: usize = 32;
/// Shortest RSA modulus, in bytes.
const MIN_RSA_BYTES: usize = 256;

/// A key that tokens are verified with, and the one algorithm it is used for.
#[derive(Clone)]
pub(crate) struct VerifyingKey {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) decoding: DecodingKey,
    /// The public form; `None` for a shared secret, which is never published.
    pub(crate) public: Option<Jwk>,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl VerifyingKey {
    /// A shared secret, for HS256.
    pub(crate) fn from_secret(secret: &SecretString) -> Result<Self, AuthError> {
        let secret = secret.expose_secret().as_bytes();
        if secret.len() < MIN_SECRET_BYTES {
            let reason =
                format!("a secret needs at least {MIN_SECRET_BYTES} bytes, this one has {}", secret.len());
            return Err(AuthError::invalid_key("the HS256 secret", reason));
        }
        let decoding = DecodingKey::from_secret(secret);
        Ok(Self { id: None, algorithm: Algorithm::HS256, decoding, public: None })
    }

    /// A PEM public key; its kind says the algorithm: RSA is RS256, P-256 is ES256, Ed25519 is EdDSA.
    pub(crate) fn from_public_pem(pem: &[u8], origin: &str) -> Result<Self, AuthError> {
        let text =
            std::str::from_utf8(pem).map_err(|_| AuthError::invalid_key(origin, "it is not a PEM file"))?;
        if text.contains("PRIVATE KEY") {
            return Err(AuthError::invalid_key(origin, "this is a private key; give its public key"));
        }
        let key = [
            (Algorithm::EdDSA, DecodingKey::from_ed_pem(pem)),
            (Algorithm::ES256, DecodingKey::from_ec_pem(pem)),
            (Algorithm::RS256, DecodingKey::from_rsa_pem(pem)),
        ]
        .into_iter()
        .find_map(|(algorithm, key)| Some((algorithm, key.ok()?)));
        let Some((algorithm, decoding)) = key else {
            return Err(AuthError::invalid_key(origin, "it is no RSA, P-256 or Ed25519 public key in PEM"));
        };
        let public = Jwk::from_decoding_key(&decoding, Some(algorithm))
            .map_err(|error| AuthError::invalid_key(origin, error))?;
        Self::from_jwk(public, origin)
    }

    /// A key of a JWKS. Its `alg`, else its type, says the algorithm.
    pub(crate) fn from_jwk(mut jwk: Jwk, origin: &str) -> Result<Self, AuthError> {
        let refuse = |reason: &str| Err(AuthError::invalid_key(origin, reason));
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return refuse("the key is not for signatures");
        }
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(parameters) => {
                if parameters.n.trim_start_matches('A').len() * 3 / 4 < MIN_RSA_BYTES {
                    return refuse("RSA keys need at least 2048 bits");
                }
                (Algorithm::RS256, KeyAlgorithm::RS256)
            }
            AlgorithmParameters::EllipticCurve(parameters) if parameters.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            // Symmetric keys are not allowed in a key set.
            _ => return refuse("only RSA, P-256 and Ed25519 keys are supported"),
        };
        if jwk.common.key_algorithm.is_some_and(|alg| alg != named) {
            return refuse("only RS256, ES256 and EdDSA are supported");
        }
        jwk.common.key_algorithm = Some(named);
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|error| AuthError::invalid_key(origin, error))?;
        Ok(Self { id: jwk.common.key_id.clone(), algorithm, decoding, public: Some(jwk) })
    }
}

/// The key's id by its content (RFC 7638, SHA-256), the same wherever it is computed.
pub(crate) fn thumbprint(jwk: &Jwk) -> Result<String, AuthError> {
    jwk.thumbprint(ThumbprintHash::SHA256).map_err(|error| AuthError::invalid_key("the key", error))
}
