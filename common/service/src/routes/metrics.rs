//! Metrics for Prometheus, or as JSON.

use actix_web::{HttpRequest, HttpResponse, web};
use videosdgx_api::MetricsReport;
use videosdgx_jobs::{Counts, Totals};
use videosdgx_shell::{Caller, Failure, HandlerResult, OPENMETRICS, ProcessStatus, Read, wants_json};

use crate::{problem_response::queue_failure, service::Service};

/// Prometheus text, or JSON
///
/// JSON with `Accept: application/json`. Totals survive a restart.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, description = "OpenMetrics text, or JSON on request", content(
        (String = "application/openmetrics-text"), (MetricsReport = "application/json")))))]
pub(crate) async fn metrics(
    _: Caller<Read>,
    request: HttpRequest,
    service: web::Data<Service>,
) -> HandlerResult {
    let (totals, counts) = (
        service.queue.totals().await.map_err(queue_failure)?,
        service.queue.counts().await.map_err(queue_failure)?,
    );
    let process = std::sync::Arc::clone(&service.shell).process().await?;
    if wants_json(&request) {
        return Ok(HttpResponse::Ok().json(report(totals, &counts, process)));
    }
    service.metrics.copy_from(&totals, &counts);
    let text = service.shell.metrics.encode(&process).map_err(Failure::internal)?;
    Ok(HttpResponse::Ok().content_type(OPENMETRICS).body(text))
}

fn report(totals: Totals, counts: &Counts, process: ProcessStatus) -> MetricsReport {
    MetricsReport {
        total_inferences: totals.total_inferences,
        successful: totals.successful,
        failed: totals.failed,
        success_rate: totals.success_rate(),
        avg_duration_seconds: totals.duration_seconds_avg(),
        min_duration_seconds: totals.duration_seconds_min,
        max_duration_seconds: totals.duration_seconds_max,
        avg_prompt_characters: totals.prompt_characters_avg(),
        last_10: totals.last_10,
        queue_size: counts.queued(),
        memory: process.memory,
        model: process.loader,
    }
}
