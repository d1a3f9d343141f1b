//! The state that the handlers of a text service share.

use std::{sync::Arc, time::UNIX_EPOCH};

use tokio::sync::OnceCell;
use videosdgx_api::{Code, EngineReport, LoaderState, Problem};
use videosdgx_shell::{Failure, HandlerResult, Shell, run_blocking};
use videosdgx_text::telemetry::StreamingTelemetryCollector;

use crate::{
    backend::ErasedBackend,
    metrics::TextMetrics,
    runtime::{ModelRuntime, StartEngine},
    settings::TextSettings,
    stream::resumable::ResumableStreams,
};

/// One text service; every handler gets a reference to it.
pub(crate) struct TextService {
    pub(crate) shell: Arc<Shell>,
    pub(crate) backend: Arc<dyn ErasedBackend>,
    pub(crate) settings: TextSettings,
    pub(crate) telemetry: StreamingTelemetryCollector,
    pub(crate) metrics: TextMetrics,
    /// Streams of WebSockets, including those whose client may reconnect.
    pub(crate) streams: Arc<ResumableStreams>,
    pub(crate) start_engine: StartEngine,
    /// Set by the first request that needs it.
    pub(crate) runtime: OnceCell<Arc<ModelRuntime>>,
    /// Unix seconds.
    pub(crate) started_at: i64,
}

impl TextService {
    pub(crate) fn name(&self) -> &str {
        self.shell.name()
    }

    /// Tokenizer, template and engine, opened by the first call. Does not load the weights.
    pub(crate) async fn runtime(self: &Arc<Self>) -> HandlerResult<Arc<ModelRuntime>> {
        let opened = self.runtime.get_or_try_init(|| async {
            let service = Arc::clone(self);
            let opened = run_blocking(move || {
                ModelRuntime::open(
                    service.name(),
                    &*service.backend,
                    &service.settings,
                    &service.start_engine,
                    service.metrics.clone(),
                )
            });
            opened.await?.map(Arc::new).map_err(Failure::from)
        });
        opened.await.cloned()
    }

    /// As [`TextService::runtime`], with the weights loaded: a load that fails is reported before a response begins.
    pub(crate) async fn loaded_runtime(self: &Arc<Self>) -> HandlerResult<Arc<ModelRuntime>> {
        self.shell.refuse_when_draining()?;
        let runtime = self.runtime().await?;
        if self.shell.loader.report().state != LoaderState::Loaded {
            // In its own task: a client that disconnects does not abort the load that other requests wait for.
            tokio::spawn(self.shell.loader.warm_up()).await.map_err(Failure::internal)??;
        }
        Ok(runtime)
    }

    /// Checks the `model` of a request: the service's name or the checkpoint's, or none.
    pub(crate) async fn check_model(self: &Arc<Self>, model: Option<&str>) -> HandlerResult<()> {
        let Some(requested) = model.filter(|model| *model != self.name()) else { return Ok(()) };
        let backend = Arc::clone(&self.backend);
        let described = run_blocking(move || backend.describe()).await?;
        if described.is_ok_and(|model| model.checkpoint == requested) {
            return Ok(());
        }
        let shown: String = requested.chars().take(100).collect();
        let detail = format!("there is no model {shown:?}; this service has {}", self.name());
        let mut problem = Problem::new(Code::ModelNotFound, detail);
        problem.field = Some("model".to_owned());
        Err(Failure(problem))
    }

    /// As [`Self::check_model`]; a request without a model is an error, as in OpenAI's API.
    pub(crate) async fn check_required_model(self: &Arc<Self>, model: Option<&str>) -> HandlerResult<()> {
        if model.is_none() {
            let detail = format!("model is missing; this service has {}", self.name());
            return Err(Problem::field("model", detail).into());
        }
        self.check_model(model).await
    }

    /// The engine's state; all zero before the first request.
    pub(crate) fn engine_report(&self) -> EngineReport {
        let snapshot = self.runtime.get().map(|runtime| runtime.engine.snapshot()).unwrap_or_default();
        let cache = snapshot.cache;
        let bytes = |blocks: usize| blocks as u64 * cache.block_bytes;
        EngineReport {
            running: snapshot.running as u64,
            waiting: snapshot.waiting as u64,
            paused: snapshot.paused as u64,
            max_running: snapshot.max_running as u64,
            queue_capacity: self.settings.queue_capacity as u64,
            kv_cache_usage: cache.used_share(),
            kv_cache_bytes: bytes(cache.capacity),
            kv_cache_limit_bytes: bytes(cache.limit),
            prefix_hit_rate: ratio(snapshot.prefix_hits, snapshot.prefix_queries),
            prompt_tokens: snapshot.prompt_tokens,
            generated_tokens: snapshot.generated_tokens,
            preemptions: snapshot.preemptions,
            steps: snapshot.steps,
            recovered_steps: snapshot.recovered_steps,
            failed_steps: snapshot.failed_steps,
            requests: snapshot.requests,
            refused: snapshot.refused,
            kept_streams: self.streams.detached() as u64,
            draining: self.shell.drain.has_begun(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts shown as a ratio")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The current time in Unix seconds.
pub(crate) fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
