//! Submitting jobs: nothing invalid is ever enqueued, and `202` is sent once the job is durable.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use videosdgx_api::{
    BatchAccepted, BatchRequest, GenerateAccepted, GenerateRequest, JobId, LoaderReport, LoaderState,
    Problem, ResolvedRequest,
};
use videosdgx_jobs::{IdempotencyKey, Principal, Submission, Submitted, Totals};
use videosdgx_shell::{
    Caller, Failure, Generate, HandlerResult,
    body::{self, Object},
    run_blocking,
};

use crate::{estimate, problem_response::queue_failure, service::Service};

/// Maximum number of requests of a batch.
const MAX_BATCH: usize = 64;
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Maximum number of characters of an idempotency key.
const MAX_KEY: usize = 255;

/// Submit a job
///
/// Responds once the job is stored on disk. Only `prompt` is required: the checkpoint's defaults fill in the rest, and the job
/// shows the values that were used. The same `Idempotency-Key` with the same body returns the first job.
#[utoipa::path(post, path = "/generate", tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, max_length = 255,
        description = "The same key with the same body is the same job; with another body it is refused (422)")),
    request_body = GenerateRequest,
    responses((status = 202, description = "Accepted and stored on disk", body = GenerateAccepted,
        headers(("location" = String, description = "The job's path")))))]
pub(crate) async fn generate(
    caller: Caller<Generate>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<Service>,
) -> HandlerResult {
    service.shell.refuse_when_draining()?;
    let body = body::read_json(&request, payload, &caller.principal).await?;
    let idempotency = idempotency_key(&request, &body)?;
    let (parsed, _lease) = body.parse::<GenerateRequest>().await?;
    let accepted = submit(&service, &caller.principal, vec![parsed], idempotency, false).await?;
    let accepted =
        accepted.into_iter().next().ok_or_else(|| Failure::internal("the queue lost an answer"))?;
    let location = format!("/jobs/{}", accepted.job_id);
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, location)).json(accepted))
}

/// Submit many jobs, all or none
///
/// The `field` of a problem names the invalid request, for example `requests[3].fps`.
#[utoipa::path(post, path = "/generate/batch", tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, max_length = 255,
        description = "The same key with the same body is the same batch; with another body it is refused (422)")),
    request_body = BatchRequest,
    responses((status = 202, description = "All are accepted, and on the disk", body = BatchAccepted)))]
pub(crate) async fn batch(
    caller: Caller<Generate>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<Service>,
) -> HandlerResult {
    service.shell.refuse_when_draining()?;
    let body = body::read_json(&request, payload, &caller.principal).await?;
    let idempotency = idempotency_key(&request, &body)?;
    let (parsed, _lease) = body.parse_with(parse_batch).await?;
    if parsed.requests.is_empty() || parsed.requests.len() > MAX_BATCH {
        let detail = format!("a batch has 1 to {MAX_BATCH} requests, not {}", parsed.requests.len());
        return Err(Failure(Problem::field("requests", detail).with_limit(MAX_BATCH)));
    }
    let jobs = submit(&service, &caller.principal, parsed.requests, idempotency, true).await?;
    Ok(HttpResponse::Accepted().json(BatchAccepted { jobs }))
}

/// The requests of a batch, each of which must be an object.
fn parse_batch(body: &[u8]) -> HandlerResult<BatchRequest> {
    #[derive(Deserialize)]
    struct OnlyObjects {
        #[serde(rename = "requests")]
        _requests: Vec<Object>,
    }

    let _: OnlyObjects = body::parse(body)?;
    body::parse(body)
}

fn idempotency_key(request: &HttpRequest, body: &[u8]) -> HandlerResult<Option<IdempotencyKey>> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim).filter(|key| (1..=MAX_KEY).contains(&key.len()));
    match (key, values.next()) {
        (Some(key), None) => {
            Ok(Some(IdempotencyKey { key: key.to_owned(), body_hash: Sha256::digest(body).into() }))
        }
        _ => {
            let detail =
                format!("{IDEMPOTENCY_KEY} is sent once, with 1 to {MAX_KEY} visible ASCII characters");
            Err(Failure(Problem::field(IDEMPOTENCY_KEY, detail).with_limit(MAX_KEY)))
        }
    }
}

/// One request, ready for the queue.
struct Prepared {
    submission: Submission,
    checkpoint: String,
    warnings: Vec<String>,
}

async fn submit(
    service: &web::Data<Service>,
    principal: &Principal,
    requests: Vec<GenerateRequest>,
    idempotency: Option<IdempotencyKey>,
    is_batch: bool,
) -> HandlerResult<Vec<GenerateAccepted>> {
    let prepared = {
        let (service, principal) = (Arc::clone(service), principal.clone());
        run_blocking(move || prepare_all(&service, &principal, &requests, idempotency.as_ref(), is_batch))
            .await??
    };
    let (submissions, notes): (Vec<_>, Vec<_>) = prepared
        .into_iter()
        .map(|prepared| (prepared.submission, (prepared.checkpoint, prepared.warnings)))
        .unzip();
    // Read before submitting: a fast worker could already have loaded the model for this job, and the job would be counted as
    // ahead of itself.
    let totals = service.queue.totals().await.map_err(queue_failure)?;
    let running = service.queue.counts().await.map_err(queue_failure)?.running;
    let loader = service.shell.loader.report();
    let submitted = service.queue.submit(submissions).await.map_err(queue_failure)?;
    Ok(accepted(service, submitted, notes, &QueueState { totals, running, loader }))
}

/// Resolves all requests, or names the first that cannot be.
fn prepare_all(
    service: &Service,
    principal: &Principal,
    requests: &[GenerateRequest],
    idempotency: Option<&IdempotencyKey>,
    is_batch: bool,
) -> HandlerResult<Vec<Prepared>> {
    let mut all = Vec::with_capacity(requests.len());
    for (index, request) in requests.iter().enumerate() {
        let resolved = service.engine.resolve(request).map_err(|mut problem| {
            if let (true, Some(field)) = (is_batch, &problem.field) {
                problem.field = Some(format!("requests[{index}].{field}"));
            }
            problem
        })?;
        let idempotency = idempotency.map(|given| IdempotencyKey {
            // Headers cannot contain control characters, so the keys of a batch never equal those of other requests.
            key: if is_batch { format!("{}\u{1f}{index}", given.key) } else { given.key.clone() },
            body_hash: given.body_hash,
        });
        all.push(prepare(service, principal, request, resolved, idempotency)?);
    }
    Ok(all)
}

fn prepare(
    service: &Service,
    principal: &Principal,
    request: &GenerateRequest,
    mut resolved: ResolvedRequest,
    idempotency: Option<IdempotencyKey>,
) -> HandlerResult<Prepared> {
    let id = JobId::random(service.name()).map_err(Failure::internal)?;
    let attachment = resolved.settings.take_attachments();
    let submission = Submission {
        id,
        principal: principal.clone(),
        priority: request.priority.unwrap_or_default(),
        body: serde_json::to_string(&resolved).map_err(Failure::internal)?,
        attachment,
        prompt_characters: resolved.settings.prompt.chars().count() as u64,
        idempotency,
        warnings: resolved.warnings.clone(),
    };
    Ok(Prepared { submission, checkpoint: resolved.checkpoint, warnings: resolved.warnings })
}

/// Queue and loader just before a submission, for the estimate.
struct QueueState {
    totals: Totals,
    running: u64,
    loader: LoaderReport,
}

fn accepted(
    service: &Service,
    submitted: Vec<Submitted>,
    notes: Vec<(String, Vec<String>)>,
    before: &QueueState,
) -> Vec<GenerateAccepted> {
    let answers = submitted.into_iter().zip(notes).map(|(submitted, (checkpoint, warnings))| {
        tracing::info!(
            job_id = %submitted.id, model = service.name(), existing = submitted.existing,
            queue_position = submitted.queue_position, "job_accepted"
        );
        GenerateAccepted {
            estimated_time_seconds: estimate::seconds_until_done(
                submitted.queue_position,
                before.running,
                &before.totals,
                &before.loader,
            ),
            job_id: submitted.id,
            status: submitted.status,
            queue_position: submitted.queue_position,
            model_loaded: before.loader.state == LoaderState::Loaded,
            checkpoint,
            warnings,
        }
    });
    answers.collect()
}
