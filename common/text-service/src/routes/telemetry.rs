//! What streams took, as JSON and as a page.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Serialize;
use utoipa::ToSchema;
use videosdgx_api::{EngineReport, GenerationRecord, LoaderReport, MemoryReport};
use videosdgx_shell::{Caller, HandlerResult, Query, Read};
use videosdgx_text::telemetry::{Comparison, MetricChange, SessionRecord, TelemetryTotals};

use super::metrics::record;
use crate::service::TextService;

/// Sessions that are listed unless told.
const SESSIONS: u64 = 50;
/// Sessions that are compared with those before them unless told.
const RECENT: u64 = 50;

/// Answer of `GET /telemetry`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Telemetry {
    /// Sums since the process started.
    summary: Summary,
    /// The newest sessions against those before them.
    regression: Regression,
    /// The newest sessions, newest first.
    sessions: Vec<Session>,
    /// The engine now.
    engine: EngineReport,
    /// The model now.
    loader: LoaderReport,
    /// Memory now.
    memory: MemoryReport,
}

/// Sums over all sessions that ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Summary {
    /// Sessions.
    sessions: u64,
    /// Tokens of output.
    total_tokens: u64,
    /// Errors, recovered ones included.
    error_count: u64,
    /// Of those, recovered.
    recovered_errors: u64,
    /// Mean time to the first token.
    average_time_to_first_token_ms: f64,
    /// 95th percentile of it.
    p95_time_to_first_token_ms: f64,
    /// Mean over sessions of the mean time between tokens.
    average_token_latency_ms: f64,
    /// 95th percentile of the sessions' means.
    p95_token_latency_ms: f64,
    /// Mean over sessions of output tokens a second.
    average_throughput: f64,
    /// Most resident memory of the process.
    max_memory_usage_mb: f64,
}

/// Whether things have become worse.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Regression {
    /// Sessions before the newest.
    baseline_sessions: u64,
    /// The newest.
    current_sessions: u64,
    /// Names of the figures below that have become worse.
    regressions: Vec<String>,
    /// Median, seconds.
    time_to_first_token: Change,
    /// Median, seconds.
    token_latency: Change,
    /// Median, seconds.
    p95_token_latency: Change,
    /// Median, tokens a second.
    throughput: Change,
    /// Errors a token.
    error_rate: Change,
}

/// One figure.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    /// Before.
    baseline: f64,
    /// Now.
    current: f64,
}

/// One session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    /// What came of it.
    #[serde(flatten)]
    record: GenerationRecord,
    /// Mean time between tokens.
    average_token_latency_ms: f64,
    /// 95th percentile of it.
    p95_token_latency_ms: f64,
    /// Output tokens a second from submission to the end.
    end_to_end_throughput: f64,
    /// Most resident memory of the process meanwhile.
    max_memory_usage_mb: f64,
    /// How many sequences ran in most of its steps.
    most_common_batch_size: u64,
    /// Errors that it met.
    errors: Vec<SessionError>,
    /// Times of its tokens in order, at most the first 512; empty when it was not sampled, or not asked for.
    token_latencies_ms: Vec<f64>,
}

/// One error of a session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionError {
    /// Stable code.
    code: String,
    /// Number of the token at which it happened.
    position: u64,
    /// Whether the stream went on.
    recovered: bool,
}

/// What streams took: the newest sessions, sums, regressions
#[utoipa::path(get, path = "/telemetry", tag = "status",
    params(
        ("sessions" = Option<u64>, Query, minimum = 0, maximum = 512, description = "Sessions to list; 50 unless told"),
        ("recent" = Option<u64>, Query, minimum = 1, maximum = 512,
            description = "Sessions to compare with those before them; 50 unless told"),
        ("latencies" = Option<bool>, Query, description = "List the times of single tokens too")),
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

/// A page that shows the engine at work
///
/// It holds nothing of the service: it asks for a token with the scope `read` and polls `/telemetry` with it.
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
