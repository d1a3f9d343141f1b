//! Measurements of generations, as JSON and as a page.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Serialize;
use utoipa::ToSchema;
use videosdgx_api::{EngineReport, GenerationRecord, LoaderReport, MemoryReport};
use videosdgx_shell::{Caller, HandlerResult, Query, Read};
use videosdgx_text::telemetry::{Comparison, MetricChange, SessionRecord, TelemetryTotals};

use super::metrics::record;
use crate::service::TextService;

/// Default number of listed sessions.
const SESSIONS: u64 = 50;
/// Default number of recent sessions that are compared with earlier ones.
const RECENT: u64 = 50;

/// Response of `GET /telemetry`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Telemetry {
    /// Totals since the process started.
    summary: Summary,
    /// Comparison of the newest sessions with earlier ones.
    regression: Regression,
    /// The newest sessions, newest first.
    sessions: Vec<Session>,
    /// The engine's current state.
    engine: EngineReport,
    /// The model's current state.
    loader: LoaderReport,
    /// Current memory use.
    memory: MemoryReport,
}

/// Totals and means over all ended sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Summary {
    /// Number of sessions.
    sessions: u64,
    /// Output tokens.
    total_tokens: u64,
    /// Errors, including recovered ones.
    error_count: u64,
    /// Recovered errors.
    recovered_errors: u64,
    /// Mean time to the first token.
    average_time_to_first_token_ms: f64,
    /// 95th percentile of the time to the first token.
    p95_time_to_first_token_ms: f64,
    /// Mean over sessions of the mean time between tokens.
    average_token_latency_ms: f64,
    /// 95th percentile of the sessions' mean times.
    p95_token_latency_ms: f64,
    /// Mean over sessions of output tokens per second.
    average_throughput: f64,
    /// Maximum resident memory of the process.
    max_memory_usage_mb: f64,
}

/// Comparison of recent sessions with earlier ones.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Regression {
    /// Number of earlier sessions.
    baseline_sessions: u64,
    /// Number of recent sessions.
    current_sessions: u64,
    /// Names of the metrics below that have become worse.
    regressions: Vec<String>,
    /// Median in seconds.
    time_to_first_token: Change,
    /// Median in seconds.
    token_latency: Change,
    /// Median in seconds.
    p95_token_latency: Change,
    /// Median in tokens per second.
    throughput: Change,
    /// Errors per token.
    error_rate: Change,
}

/// One metric.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    /// Value of the earlier sessions.
    baseline: f64,
    /// Value of the recent sessions.
    current: f64,
}

/// One session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    /// Outcome and times.
    #[serde(flatten)]
    record: GenerationRecord,
    /// Mean time between tokens.
    average_token_latency_ms: f64,
    /// 95th percentile of the time between tokens.
    p95_token_latency_ms: f64,
    /// Output tokens per second from submission to the end.
    end_to_end_throughput: f64,
    /// Maximum resident memory of the process during the session.
    max_memory_usage_mb: f64,
    /// Most frequent number of sequences in its steps.
    most_common_batch_size: u64,
    /// Errors of the session.
    errors: Vec<SessionError>,
    /// Times of the first 512 tokens in order; empty if the session was not sampled or `latencies` is not set.
    token_latencies_ms: Vec<f64>,
}

/// One error of a session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionError {
    /// Stable code.
    code: String,
    /// Number of the token at which it occurred.
    position: u64,
    /// Whether the stream continued.
    recovered: bool,
}

/// Measurements of streams: recent sessions, totals, regressions
#[utoipa::path(get, path = "/telemetry", tag = "status",
    params(
        ("sessions" = Option<u64>, Query, minimum = 0, maximum = 512, description = "Sessions to list; default: 50"),
        ("recent" = Option<u64>, Query, minimum = 1, maximum = 512,
            description = "Recent sessions to compare with earlier ones; default: 50"),
        ("latencies" = Option<bool>, Query, description = "Include the times of single tokens")),
    responses((status = 200, body = Telemetry)))]
pub(crate) async fn telemetry(
    _: Caller<Read>,
    request: HttpRequest,
    service: web::Data<TextService>,
) -> HandlerResult {
    let query = Query::of(&request, &["sessions", "recent", "latencies"])?;
    let listed = query.integer("sessions", 0..=512)?.unwrap_or(SESSIONS);
    let recent = query.integer("recent", 1..=512)?.unwrap_or(RECENT);
    let latencies = query.flag("latencies")?;
    let process = std::sync::Arc::clone(&service.shell).process().await?;
    let history = service.telemetry.history();
    let listed = usize::try_from(listed).unwrap_or(usize::MAX);
    let recent = usize::try_from(recent).unwrap_or(usize::MAX);
    Ok(HttpResponse::Ok().json(Telemetry {
        summary: summary(&service.telemetry.totals()),
        regression: regression(&service.telemetry.compare_recent(recent)),
        sessions: history.iter().rev().take(listed).map(|one| session(one, latencies)).collect(),
        engine: service.engine_report(),
        loader: process.loader,
        memory: process.memory,
    }))
}

fn milliseconds(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "bytes shown as megabytes")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn summary(totals: &TelemetryTotals) -> Summary {
    Summary {
        sessions: totals.sessions,
        total_tokens: totals.tokens,
        error_count: totals.errors,
        recovered_errors: totals.recovered_errors,
        average_time_to_first_token_ms: milliseconds(totals.average_time_to_first_token),
        p95_time_to_first_token_ms: milliseconds(totals.p95_time_to_first_token),
        average_token_latency_ms: milliseconds(totals.average_token_latency),
        p95_token_latency_ms: milliseconds(totals.p95_token_latency),
        average_throughput: totals.average_throughput,
        max_memory_usage_mb: megabytes(totals.max_memory_bytes),
    }
}

fn regression(comparison: &Comparison) -> Regression {
    let change = |change: MetricChange| Change { baseline: change.baseline, current: change.current };
    Regression {
        baseline_sessions: comparison.baseline_sessions as u64,
        current_sessions: comparison.current_sessions as u64,
        regressions: comparison.regressions().into_iter().map(str::to_owned).collect(),
        time_to_first_token: change(comparison.time_to_first_token),
        token_latency: change(comparison.token_latency),
        p95_token_latency: change(comparison.p95_token_latency),
        throughput: change(comparison.throughput),
        error_rate: change(comparison.error_rate),
    }
}

fn session(session: &SessionRecord, latencies: bool) -> Session {
    let summary = &session.summary;
    Session {
        record: record(session),
        average_token_latency_ms: milliseconds(summary.average_token_latency),
        p95_token_latency_ms: milliseconds(summary.p95_token_latency),
        end_to_end_throughput: summary.end_to_end_throughput,
        max_memory_usage_mb: megabytes(summary.max_memory_bytes),
        most_common_batch_size: summary.most_common_batch_size as u64,
        errors: session
            .errors
            .iter()
            .map(|error| SessionError {
                code: error.code.as_str().to_owned(),
                position: error.position as u64,
                recovered: error.recovered,
            })
            .collect(),
        token_latencies_ms: if latencies {
            session.token_latencies.iter().map(|time| milliseconds(*time)).collect()
        } else {
            Vec::new()
        },
    }
}

/// Dashboard page
///
/// The page itself contains no data: it asks for an access token with the scope `read` and polls `/telemetry` with it.
#[utoipa::path(get, path = "/dashboard", tag = "docs", responses(
    (status = 200, content_type = "text/html", body = String)))]
pub(crate) async fn dashboard() -> HttpResponse {
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(include_str!("dashboard.html").replace("{nonce}", &nonce))
}
