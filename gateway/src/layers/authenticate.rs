use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;

use super::access::{Access, access};
use crate::Gateway;
use crate::failure::Failure;

/// Finds out who asks and whether the token allows it, before anything else is looked at. The principal goes along as
/// an extension.
pub(crate) async fn authenticate(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    let access = access(request.method(), request.uri().path());
    if access == Access::Public {
        return next.run(request).await;
    }
    let values: Vec<&[u8]> =
        request.headers().get_all(AUTHORIZATION).iter().map(http::HeaderValue::as_bytes).collect();
    let checked = gateway.verifier.authenticate(values).await.and_then(|principal| {
        if let Access::Needs(scope) = access {
            principal.require(scope)?;
        }
        Ok(principal)
    });
    match checked {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(denied) => {
            tracing::debug!(event = "denied", reason = ?denied);
            Failure::from(denied).into_response()
        }
    }
}
