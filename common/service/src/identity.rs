//! Who is asking: extractors that refuse before a handler runs.

use std::marker::PhantomData;

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web};
use futures::future::LocalBoxFuture;
use videosdgx_api::JobId;
use videosdgx_auth::Scope;
use videosdgx_jobs::Principal;

use crate::{problem_response::Failure, service::Service};

/// A scope as a type.
pub(crate) trait Needs: 'static {
    /// The scope that the token must have.
    const SCOPE: Scope;
}

/// Submit, cancel, load.
#[derive(Debug)]
pub(crate) struct Generate;
/// Look at one's own jobs, at the queue and the metrics.
#[derive(Debug)]
pub(crate) struct Read;
/// Unload.
#[derive(Debug)]
pub(crate) struct Admin;

impl Needs for Generate {
    const SCOPE: Scope = Scope::Generate;
}
impl Needs for Read {
    const SCOPE: Scope = Scope::Read;
}
impl Needs for Admin {
    const SCOPE: Scope = Scope::Admin;
}

/// The verified caller, whose token has the scope `S`.
#[derive(Debug)]
pub(crate) struct Caller<S> {
    /// Owner of jobs.
    pub(crate) principal: Principal,
    scope: PhantomData<S>,
}

impl<S: Needs> FromRequest for Caller<S> {
    type Error = Failure;
    type Future = LocalBoxFuture<'static, Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let service = request
                .app_data::<web::Data<Service>>()
                .ok_or_else(|| Failure::internal("the routes were registered without their service"))?;
            let values = request.headers().get_all(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
            let caller = service.verifier.authenticate(values).await?;
            caller.require(S::SCOPE)?;
            Ok(Self { principal: Principal::new(caller.subject()), scope: PhantomData })
        })
    }
}

/// The `{id}` of a path. What is no id is no job.
#[derive(Debug)]
pub(crate) struct JobPath(pub(crate) JobId);

impl FromRequest for JobPath {
    type Error = Failure;
    type Future = std::future::Ready<Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(|id| id.parse().ok());
        std::future::ready(id.map(Self).ok_or_else(Failure::job_not_found))
    }
}
