use axum::extract::Request;
use http::header::AUTHORIZATION;

use super::access::{Access, access};
use crate::Gateway;
use crate::failure::Failure;
use crate::tunnel;

/// Finds out who asks and whether the token allows it, before anything else is looked at. The principal goes along as
/// an extension.
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
    let checked = gateway.verifier.authenticate(values).await.and_then(|principal| {
        if let Access::Needs(scope) = access {
            principal.require(scope)?;
        }
        Ok(principal)
    });
    let principal = checked.inspect_err(|denied| tracing::debug!(event = "denied", reason = ?denied))?;
    request.extensions_mut().insert(principal);
    Ok(())
}
