//! `/models/{model}/…`: the paths of a service, forwarded unchanged.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::Method;
use serde::Deserialize;
use videosdgx_api::{Code, JobList};

use crate::Gateway;
use crate::failure::Failure;
use crate::jobs::{self, ListOptions};
use crate::proxy::forward;
use crate::retry::Destination;
use crate::upstream::Model;
use crate::upstream_client::UpstreamClient;

/// Handles every method and path below `/models/{model}`.
pub(crate) async fn native(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Failure> {
    let (name, inner) = split(request.uri().path())?;
    let model = gateway.models.get(name).ok_or_else(|| model_not_found(&gateway))?;
    let target = match request.uri().query() {
        Some(query) => format!("{inner}?{query}"),
        None => inner.to_owned(),
    };
    if model.upstreams.len() == 1 {
        return forward(&gateway, Destination::Any(model), request, &target).await;
    }
    if inner == "/jobs" && request.method() == Method::GET {
        return list(&gateway, model, request).await;
    }
    let Some(id) = job_id(inner) else {
        return forward(&gateway, Destination::Any(model), request, &target).await;
    };
    let id = jobs::parse_id(id)?;
    let (parts, body) = request.into_parts();
    let upstream = jobs::locate(&gateway, &UpstreamClient::new(&parts), &model.upstreams, &id).await?;
    let request = Request::from_parts(parts, body);
    forward(&gateway, Destination::Only(&upstream), request, &target).await
}

/// The service's part of `/models/{model}/…`: `/models/wan21/jobs/x` gives `/jobs/x`.
pub(crate) fn service_path(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/models/")?;
    rest.find('/').map(|at| &rest[at..])
}

/// Model and path at the service: `/models/wan21/jobs/x` gives `wan21` and `/jobs/x`. Paths with dot segments, percent
/// escapes or empty segments, which a service might read in another way, give 404.
fn split(path: &str) -> Result<(&str, &str), Failure> {
    let not_found = || Failure::new(Code::NotFound, "there is no such path");
    let rest = path.strip_prefix("/models/").ok_or_else(not_found)?;
    let (name, inner) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let mut segments = inner.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment == "." || segment == ".." || segment.is_empty() && !last {
            return Err(not_found());
        }
    }
    if inner.bytes().all(plain) { Ok((name, inner)) } else { Err(not_found()) }
}

/// The id in `/jobs/{id}` and in paths below it.
fn job_id(inner: &str) -> Option<&str> {
    let rest = inner.strip_prefix("/jobs/")?;
    rest.split('/').next().filter(|id| !id.is_empty())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    status: Option<String>,
}

/// The jobs of all services of a model in one list. The cursor is the id of the last job.
async fn list(gateway: &Gateway, model: &Model, request: Request) -> Result<Response, Failure> {
    let Query(query) = Query::<ListQuery>::try_from_uri(request.uri())
        .map_err(|error| Failure::new(Code::InvalidField, error.body_text()))?;
    let after = query.cursor.as_deref().map(jobs::parse_id).transpose();
    let after = after.map_err(|_| Failure::field("cursor", "this is not a cursor of a list"))?;
    let limit = jobs::check_limit(query.limit, 200)?;
    let options = ListOptions { after, limit, oldest_first: false, status: query.status };
    let client = UpstreamClient::new(&request.into_parts().0);
    let (page, has_more) = jobs::list(gateway, &client, &model.upstreams, &options).await?;
    let jobs: Vec<_> = page.into_iter().map(|found| found.job).collect();
    let next_cursor = jobs.last().filter(|_| has_more).map(|job| job.job_id.to_string());
    Ok(Json(JobList { jobs, next_cursor }).into_response())
}

/// 404 that lists the configured models.
pub(crate) fn model_not_found(gateway: &Gateway) -> Failure {
    let names: Vec<&str> = gateway.models.iter().map(|model| model.name.as_str()).collect();
    let detail = format!("there is no such model; there is {}", names.join(", "));
    Failure::new(Code::ModelNotFound, detail).map(|problem| problem.field = Some("model".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_and_ambiguous_ones_refused() {
        assert_eq!(split("/models/wan21/jobs/x").unwrap(), ("wan21", "/jobs/x"));
        assert_eq!(split("/models/wan21/").unwrap(), ("wan21", "/"));
        assert_eq!(split("/models/wan21").unwrap(), ("wan21", "/"));
        assert_eq!(split("/models/wan21/docs/").unwrap(), ("wan21", "/docs/"));
        for path in [
            "/models/wan21/docs/../unload",
            "/models/wan21/docs/%2e%2e/unload",
            "/models/wan21//unload",
            "/models/wan21/./unload",
            "/models/wan21/docs/..",
            "/models/wan21/%75nload",
            "/models/wan21/docs\\unload",
            "/models/wan21/docs;unload",
        ] {
            assert!(split(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_job_of_a_path() {
        assert_eq!(job_id("/jobs/wan21-1"), Some("wan21-1"));
        assert_eq!(job_id("/jobs/wan21-1/events"), Some("wan21-1"));
        assert_eq!(job_id("/jobs/"), None);
        assert_eq!(job_id("/jobs"), None);
        assert_eq!(job_id("/info"), None);
    }
}
