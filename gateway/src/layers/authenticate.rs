//! Authentication and scopes.

use axum::extract::Request;
use http::header::AUTHORIZATION;

use super::access::{Access, access};
use crate::Gateway;
use crate::failure::Failure;
use crate::tunnel;

/// Verifies the token and its scope, unless the path is public. The identity becomes an extension of the request.
pub(crate) async fn authenticate(gateway: &Gateway, request: &mut Request) -> Result<(), Failure> {
    let access = access(request.method(), request.uri().path());
    if access == Access::Public {
        return Ok(());
    }
    if tunnel::is_requested(request.headers()) {
        tunnel::token::move_to_authorization(request.headers_mut());
    }
    let values: Vec<&[u8]> =
        request.headers().get_all(AUTHORIZATION).iter().map(http::HeaderValue::as_bytes).collect();
    let identity = gateway.verifier.authenticate(values).await.and_then(|identity| {
        if let Access::Scope(scope) = access {
            identity.require(scope)?;
        }
        Ok(identity)
    });
    let identity = identity.inspect_err(|denied| tracing::debug!(event = "denied", reason = ?denied))?;
    request.extensions_mut().insert(identity);
    Ok(())
}
