//! Figures for Prometheus, or as JSON.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use videosdgx_api::MetricsReport;

use crate::{
    identity::{Caller, Read},
    metrics::Now,
    problem_response::{Answered, Failure},
    service::{Service, off_the_reactor},
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prometheus text, or JSON
///
/// JSON with `Accept: application/json`. Totals survive a restart.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, description = "OpenMetrics text, or JSON when asked for", content(
        (String = "application/openmetrics-text"), (MetricsReport = "application/json")))))]
pub(crate) async fn metrics(_: Caller<Read>, request: HttpRequest, service: web::Data<Service>) -> Answered {
    let shared = std::sync::Arc::clone(&service);
    let now = Now {
        totals: service.queue.totals().await?,
        counts: service.queue.counts().await?,
        loader: service.loader.report(),
        memory: off_the_reactor(move || shared.host.memory()).await?,
        draining: service.drain.has_begun(),
    };
    if wants_json(&request) {
        return Ok(HttpResponse::Ok().json(report(now)));
    }
    let text = service.metrics.encode(&now).map_err(Failure::internal)?;
    Ok(HttpResponse::Ok().content_type(OPENMETRICS).body(text))
}

fn report(now: Now) -> MetricsReport {
    let Now { totals, counts, loader, memory, .. } = now;
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
        memory,
        model: loader,
    }
}

/// Whether JSON is named before any form of text.
fn wants_json(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    accept.split(',').map(|kind| kind.split(';').next().unwrap_or("").trim()).find(|kind| {
        matches!(*kind, "application/json" | "text/plain" | "application/openmetrics-text" | "*/*")
    }) == Some("application/json")
}
