//! The caller's own jobs; those of others are answered as unknown.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use futures::StreamExt as _;
use jiff::Timestamp;
use videosdgx_api::{EventKind, Job, JobList, JobStatus, Problem};
use videosdgx_jobs::{Cursor, ListOrder, ListQuery, QueueError};
use videosdgx_shell::{Caller, Failure, Generate, HandlerResult, Query, Read, run_blocking};

use crate::{job_path::JobPath, job_view, problem_response::queue_failure, service::Service};

const LIST_PARAMETERS: [&str; 7] =
    ["status", "limit", "order", "cursor", "after", "created_before", "created_after"];
/// How long a DELETE that forgets waits for a running job to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Your jobs by time, page by page
#[utoipa::path(get, path = "/jobs", tag = "jobs",
    params(
        ("status" = Option<String>, Query, pattern = "^(queued|processing|completed|failed|cancelled|dead)(,(queued|processing|completed|failed|cancelled|dead))*$",
            description = "Only these, separated by commas", example = "queued,processing"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "Jobs per page, default 20"),
        ("order" = Option<String>, Query, pattern = "^(asc|desc)$", description = "`desc` (default): newest first; `asc`: oldest first"),
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,19}$",
            description = "`next_cursor` of the page before, with the same order"),
        ("after" = Option<String>, Query, description = "Id of a job: the jobs after it in the order"),
        ("created_before" = Option<String>, Query, description = "RFC 3339 time: only jobs that were accepted before it"),
        ("created_after" = Option<String>, Query, description = "RFC 3339 time: only jobs that were accepted after it"),
    ),
    responses((status = 200, body = JobList)))]
pub(crate) async fn list(
    caller: Caller<Read>,
    request: HttpRequest,
    service: web::Data<Service>,
) -> HandlerResult {
    let query = Query::of(&request, &LIST_PARAMETERS)?;
    let page =
        service.queue.list(&caller.principal, list_query(&query)?).await.map_err(|error| match error {
            QueueError::NotFound => unknown_after(),
            error => queue_failure(error),
        })?;
    let jobs = page
        .jobs
        .into_iter()
        .map(|record| job_view::job(service.name(), record))
        .collect::<Result<_, _>>()?;
    let next_cursor = page.next.map(|cursor| cursor.to_string());
    Ok(HttpResponse::Ok().json(JobList { jobs, next_cursor }))
}

fn list_query(query: &Query) -> HandlerResult<ListQuery> {
    let mut list = ListQuery::default();
    if let Some(statuses) = query.get("status") {
        for name in statuses.split(',') {
            let known = JobStatus::ALL.into_iter().find(|status| status.as_str() == name.trim());
            list.statuses.push(known.ok_or_else(|| {
                let names = JobStatus::ALL.map(JobStatus::as_str).join(", ");
                Failure(Problem::field("status", format!("status is one or several of {names}")))
            })?);
        }
    }
    if let Some(limit) = query.integer("limit", 1..=ListQuery::MAX_LIMIT as u64)? {
        list.limit = usize::try_from(limit).unwrap_or(ListQuery::MAX_LIMIT);
    }
    if let Some(cursor) = query.get("cursor") {
        let digits = (1..=19).contains(&cursor.len()) && cursor.bytes().all(|byte| byte.is_ascii_digit());
        let cursor: Option<Cursor> = cursor.parse().ok().filter(|_| digits);
        list.cursor = Some(cursor.ok_or_else(|| {
            Failure(Problem::field("cursor", "cursor is the next_cursor of the page before"))
        })?);
    }
    list.order = match query.get("order") {
        None | Some("desc") => ListOrder::NewestFirst,
        Some("asc") => ListOrder::OldestFirst,
        Some(_) => return Err(Failure(Problem::field("order", "order is asc or desc"))),
    };
    if let Some(after) = query.get("after") {
        list.after = Some(after.parse().map_err(|_| unknown_after())?);
    }
    list.created_before = time(query, "created_before")?;
    list.created_after = time(query, "created_after")?;
    Ok(list)
}

fn time(query: &Query, name: &str) -> HandlerResult<Option<Timestamp>> {
    let Some(text) = query.get(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Failure(Problem::field(name, format!("{name} is an RFC 3339 time, for example 2026-01-31T12:00:00Z")))
    })
}

fn unknown_after() -> Failure {
    Failure(Problem::field("after", "there is no such job to continue after"))
}

/// A job with its progress
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Job)))]
pub(crate) async fn job(caller: Caller<Read>, id: JobPath, service: web::Data<Service>) -> HandlerResult {
    let record = service.queue.get(&caller.principal, &id.0).await.map_err(queue_failure)?;
    Ok(HttpResponse::Ok().json(job_view::job(service.name(), record)?))
}

/// Cancel a job, or delete it with its file
///
/// A waiting job is cancelled at once, a running one at its next step (the response then still shows `processing`). A job that is
/// already cancelled is returned unchanged; one that ended otherwise gives 409 `already_ended`. With `forget=true` a job that has
/// ended is deleted with its file, and an unfinished one is cancelled first; the response is its last state.
#[utoipa::path(delete, path = "/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"),
        ("forget" = Option<bool>, Query, description = "Delete the job and its file")),
    responses((status = 200, description = "Cancelled, being cancelled, or deleted", body = Job)))]
pub(crate) async fn delete(
    caller: Caller<Generate>,
    id: JobPath,
    request: HttpRequest,
    service: web::Data<Service>,
) -> HandlerResult {
    let forget = Query::of(&request, &["forget"])?.flag("forget")?;
    let (queue, principal, id) = (&service.queue, &caller.principal, &id.0);
    match queue.cancel(principal, id).await {
        Ok(status) => tracing::info!(job_id = %id, status = status.as_str(), "job_cancelled"),
        Err(QueueError::AlreadyEnded { .. }) if forget => {}
        Err(error) => return Err(queue_failure(error)),
    }
    if !forget {
        return answer(&service, queue.get(principal, id).await.map_err(queue_failure)?);
    }
    let mut events = queue.subscribe(principal, id, 0).await.map_err(queue_failure)?;
    let ended = async {
        while let Some(event) = events.next().await {
            if event.kind == EventKind::State && event.status.is_terminal() {
                break;
            }
        }
    };
    if tokio::time::timeout(STOPS_WITHIN, ended).await.is_err() {
        let detail = "the job is being cancelled and has not stopped yet; try again soon";
        return Err(Failure(
            Problem::new(videosdgx_api::Code::NotCompleted, detail).with_retry_after(STOPS_WITHIN.as_secs()),
        ));
    }
    let record = queue.get(principal, id).await.map_err(queue_failure)?;
    let forgotten = queue.forget(principal, id).await.map_err(queue_failure)?;
    // The queue's hook removes the files too, perhaps after this answer.
    if let Some(name) = forgotten.output_path {
        let service = service.clone().into_inner();
        run_blocking(move || service.outputs.remove(&name)).await?;
    }
    tracing::info!(job_id = %id, "job_forgotten");
    answer(&service, record)
}

fn answer(service: &Service, record: videosdgx_jobs::JobRecord) -> HandlerResult {
    Ok(HttpResponse::Ok().json(job_view::job(service.name(), record)?))
}
