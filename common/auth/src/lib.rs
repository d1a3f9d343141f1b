//! Authentication and authorisation of callers.
//!
//! The gateway and every service use this crate with the same configuration, so a service that is reachable
//! directly is protected as well. A caller sends a JWT in `Authorization: Bearer`; the [`Verifier`] turns it into a
//! [`Identity`] or a [`Denied`] that looks the same to the caller whatever was wrong with the token.
//!
//! ```no_run
//! # async fn handler() -> Result<(), Box<dyn std::error::Error>> {
//! use videosdgx_auth::{AuthConfig, Scope, Verifier};
//!
//! let verifier = Verifier::from_config(&AuthConfig::from_env()?)?;
//! // In a handler: every value of the request's `Authorization` header, as bytes.
//! let identity = verifier.authenticate([b"Bearer eyJ...".as_slice()]).await?;
//! identity.require(Scope::Generate)?;
//! # Ok(()) }
//! ```
//!
//! Keys come from a key folder ([`KeyFolder`], created at the first start), a shared secret, a PEM public key, a
//! JWKS file or a JWKS URL. A key has exactly one algorithm; a token that names another is refused.

mod claims;
mod config;
mod denied;
mod error;
mod fetcher;
mod identity;
mod key;
mod key_folder;
mod key_set;
mod scope;
mod signer;
mod token_cache;
mod verifier;

pub use config::AuthConfig;
pub use denied::Denied;
pub use error::AuthError;
#[cfg(feature = "http")]
pub use fetcher::HttpJwksFetcher;
pub use fetcher::{FetchFuture, JwksFetcher};
pub use identity::Identity;
pub use key_folder::KeyFolder;
pub use scope::Scopes;
pub use secrecy::{ExposeSecret, SecretString};
pub use signer::Signer;
pub use verifier::Verifier;
pub use videosdgx_api::Scope;

/// Longest accepted token, in bytes; longer ones are refused without parsing.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Default `iss` of minted and accepted tokens.
pub const DEFAULT_ISSUER: &str = "videosdgx";
/// Default `aud` of minted and accepted tokens.
pub const DEFAULT_AUDIENCE: &str = "videosdgx";
/// Clock difference that is tolerated for `exp` and `nbf`, in seconds.
pub const LEEWAY_SECONDS: u64 = 15;
