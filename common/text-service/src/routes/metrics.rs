//! `/metrics`: OpenMetrics text or JSON.

use std::time::UNIX_EPOCH;

use actix_web::{HttpRequest, HttpResponse, web};
use videosdgx_api::{GenerationRecord, TextMetricsReport};
use videosdgx_shell::{Caller, Failure, HandlerResult, OPENMETRICS, ProcessStatus, Read, wants_json};
use videosdgx_text::{FinishReason, telemetry::SessionRecord};

use crate::service::TextService;

/// Prometheus text, or JSON
///
/// JSON with `Accept: application/json`. Metrics of generations have vLLM's names with the prefix `videosdgx`.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, description = "OpenMetrics text, or JSON on request", content(
        (String = "application/openmetrics-text"), (TextMetricsReport = "application/json")))))]
pub(crate) async fn metrics(
    _: Caller<Read>,
    request: HttpRequest,
    service: web::Data<TextService>,
) -> HandlerResult {
    let process = std::sync::Arc::clone(&service.shell).process().await?;
    if wants_json(&request) {
        return Ok(HttpResponse::Ok().json(report(&service, process)));
    }
    service.metrics.kept_streams.set(i64::try_from(service.streams.detached()).unwrap_or(i64::MAX));
    let text = service.shell.metrics.encode(&process).map_err(Failure::internal)?;
    Ok(HttpResponse::Ok().content_type(OPENMETRICS).body(text))
}

fn report(service: &TextService, process: ProcessStatus) -> TextMetricsReport {
    let history = service.telemetry.history();
    let durations = || history.iter().map(|session| session.summary.session_duration.as_secs_f64());
    let outcomes = service.metrics.outcomes();
    let total = outcomes.successful + outcomes.failed;
    let engine = service.engine_report();
    TextMetricsReport {
        total_inferences: total,
        successful: outcomes.successful,
        failed: outcomes.failed,
        cancelled: outcomes.cancelled,
        success_rate: (total > 0).then(|| outcomes.successful as f64 / total as f64),
        avg_duration_seconds: mean(durations()),
        min_duration_seconds: durations().reduce(f64::min),
        max_duration_seconds: durations().reduce(f64::max),
        avg_prompt_tokens: mean(history.iter().map(|session| session.usage.prompt_tokens as f64)),
        last_10: history.iter().rev().take(10).map(record).collect(),
        queue_size: engine.waiting,
        memory: process.memory,
        model: process.loader,
        engine,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

/// A session of the history as the API shows it.
pub(crate) fn record(session: &SessionRecord) -> GenerationRecord {
    GenerationRecord {
        reason: reason(session.reason).to_owned(),
        duration_seconds: session.summary.session_duration.as_secs_f64(),
        time_to_first_token_seconds: session.summary.time_to_first_token.map(|time| time.as_secs_f64()),
        tokens_per_second: session.summary.average_throughput,
        prompt_tokens: session.usage.prompt_tokens as u64,
        completion_tokens: session.usage.completion_tokens as u64,
        submitted_at: session
            .submitted_at
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64()),
    }
}

/// The name of a finish reason in the API.
pub(crate) fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
        FinishReason::Deadline => "deadline",
        FinishReason::Error => "error",
    }
}
