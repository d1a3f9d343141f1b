//! Extractors that verify the caller before a handler runs.

use std::marker::PhantomData;

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload, http::header, web};
use futures::future::LocalBoxFuture;
use videosdgx_api::Principal;
use videosdgx_auth::Scope;

use crate::{Failure, HandlerResult, Shell};

/// A scope as a type.
pub trait RequiredScope: 'static {
    /// The scope that the token must have.
    const SCOPE: Scope;
}

/// Submit, cancel, load.
#[derive(Debug)]
pub struct Generate;
/// Read the caller's own jobs, the queue and the metrics.
#[derive(Debug)]
pub struct Read;
/// Unload.
#[derive(Debug)]
pub struct Admin;

impl RequiredScope for Generate {
    const SCOPE: Scope = Scope::Generate;
}
impl RequiredScope for Read {
    const SCOPE: Scope = Scope::Read;
}
impl RequiredScope for Admin {
    const SCOPE: Scope = Scope::Admin;
}

/// In the extensions of a request whose token has the scope `admin`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsAdmin;

/// The verified caller, whose token has the scope `S`.
#[derive(Debug)]
pub struct Caller<S> {
    /// Owner of jobs and streams.
    pub principal: Principal,
    scope: PhantomData<S>,
}

impl<S: RequiredScope> FromRequest for Caller<S> {
    type Error = Failure;
    type Future = LocalBoxFuture<'static, Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let values = request.headers().get_all(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
            let principal = authenticate::<S>(&request, values).await?;
            Ok(Self { principal, scope: PhantomData })
        })
    }
}

/// The principal of a token, given all values of an `Authorization` header, when it has the scope `S`.
///
/// # Errors
/// 401 `unauthorized`, 403 `insufficient_scope`.
pub async fn authenticate<'a, S: RequiredScope>(
    request: &HttpRequest,
    values: impl IntoIterator<Item = &'a [u8]>,
) -> HandlerResult<Principal> {
    let shell = request
        .app_data::<web::Data<Shell>>()
        .ok_or_else(|| Failure::internal("the routes were registered without their shell"))?;
    let identity = shell.verifier.authenticate(values).await?;
    identity.require(S::SCOPE)?;
    if identity.require(Scope::Admin).is_ok() {
        request.extensions_mut().insert(IsAdmin);
    }
    Ok(identity.principal().clone())
}
