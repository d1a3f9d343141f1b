//! Loading and unloading the model on request.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use videosdgx_api::{Freed, LoaderReport, LoaderState};

use crate::{Admin, Caller, Failure, Generate, HandlerResult, Query, Shell, body, run_blocking};

/// A load that fails within this time is reported in the response, not only in the log.
const FAILS_AT_ONCE: Duration = Duration::from_millis(300);
/// How long an unload waits for the job that uses the model.
const UNLOAD_WAIT_SECONDS: u64 = 30;

/// Load the model
///
/// Answers 200 when it is loaded and 202 while it is being loaded (with `wait=true` only when it is loaded).
#[utoipa::path(post, path = "/load", tag = "model",
    params(("wait" = Option<bool>, Query, description = "Answer when the model is loaded")),
    responses(
        (status = 200, description = "Loaded", body = LoaderReport),
        (status = 202, description = "Being loaded; see /ready", body = LoaderReport)))]
pub async fn load(
    caller: Caller<Generate>,
    request: HttpRequest,
    payload: web::Payload,
    shell: web::Data<Shell>,
) -> HandlerResult {
    let wait = Query::of(&request, &["wait"])?.flag("wait")?;
    body::read(&request, payload, &caller.principal).await?;
    shell.refuse_when_draining()?;
    let info = std::sync::Arc::clone(&shell.info);
    run_blocking(move || info.checkpoint()).await??;
    let warm_up = tokio::spawn(shell.loader.warm_up());
    if wait {
        warm_up.await.map_err(Failure::internal)??;
    } else if let Ok(ended) = tokio::time::timeout(FAILS_AT_ONCE, warm_up).await {
        ended.map_err(Failure::internal)??;
    }
    let report = shell.loader.report();
    let mut response =
        if report.state == LoaderState::Loaded { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(response.json(report))
}

/// Unload the model; the response says how much memory was freed
///
/// Waits for the job that uses it, at most `wait_seconds`; then 409 `model_busy`.
#[utoipa::path(post, path = "/unload", tag = "model",
    params(("wait_seconds" = Option<u64>, Query, minimum = 0, maximum = 600, description = "How long to wait for the job that uses the model, default 30")),
    responses((status = 200, description = "Nothing is loaded any more", body = Freed)))]
pub async fn unload(
    caller: Caller<Admin>,
    request: HttpRequest,
    payload: web::Payload,
    shell: web::Data<Shell>,
) -> HandlerResult {
    let wait = Query::of(&request, &["wait_seconds"])?.integer("wait_seconds", 0..=600)?;
    body::read(&request, payload, &caller.principal).await?;
    let freed = shell.loader.unload(Duration::from_secs(wait.unwrap_or(UNLOAD_WAIT_SECONDS))).await?;
    let shared = std::sync::Arc::clone(&shell);
    let memory_after = run_blocking(move || shared.host.memory()).await?;
    #[expect(clippy::cast_precision_loss, reason = "bytes shown as gigabytes")]
    let memory_freed_gb = freed.freed_bytes as f64 / 1e9;
    tracing::info!(model = shell.name(), memory_freed_gb, "model_unloaded");
    Ok(HttpResponse::Ok().json(Freed {
        status: "unloaded".to_owned(),
        model_name: shell.name().to_owned(),
        memory_freed_gb,
        memory_after,
    }))
}
