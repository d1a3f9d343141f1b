use axum::extract::Request;
use http::header::AUTHORIZATION;

use super::access::{Access, access};
use crate::Gateway;
use crate::failure::Failure;
use crate::tunnel;

/// Identifies the caller and checks that the token allows the request, before anything else is read. The identity is
/// passed on as an extension.
pub(crate) async fn authenticate(gateway: &Gateway, request: &mut Request) -> Result<(), Failure> {
    let access = access(request.method(), request.uri().path());
    if access == Access::Public {
        return Ok(());
    }
    if tunnel::wanted(request.headers()) {
        tunnel::token::adopt(request.headers_mut());
    }
    let values: Vec<&[u8]> =
        request.headers().get_all(AUTHORIZATION).iter().map(http::HeaderValue::as_bytes).collect();
    let checked = gateway.verifier.authenticate(values).await.and_then(|identity| {
        if let Access::Scope(scope) = access {
            identity.require(scope)?;
        }
        Ok(identity)
    });
    let identity = checked.inspect_err(|denied| tracing::debug!(event = "denied", reason = ?denied))?;
    request.extensions_mut().insert(identity);
    Ok(())
}
