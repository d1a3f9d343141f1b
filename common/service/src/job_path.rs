//! The `{id}` of a path.

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use videosdgx_api::JobId;

use videosdgx_shell::Failure;

use crate::problem_response::job_not_found;

/// The `{id}` of a path. An invalid id is answered like an unknown job.
#[derive(Debug)]
pub(crate) struct JobPath(pub(crate) JobId);

impl FromRequest for JobPath {
    type Error = Failure;
    type Future = std::future::Ready<Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(|id| id.parse().ok());
        std::future::ready(id.map(Self).ok_or_else(job_not_found))
    }
}
