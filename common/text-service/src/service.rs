//! What the routes of a text service share.

use std::sync::Arc;

use tokio::sync::OnceCell;
use videosdgx_api::EngineReport;
use videosdgx_model::ModelError;
use videosdgx_shell::{Failure, HandlerResult, Operation, ServiceInfo, Shell, run_blocking};
use videosdgx_text::{EngineConfig, Language, TextEngine, telemetry::StreamingTelemetryCollector};

use crate::{
    backend::ErasedBackend, metrics::TextMetrics, openapi, ready::Ready, routes, settings::TextSettings,
    socket::KeptStreams,
};

/// A text service as the shell's routes see it.
pub(crate) struct TextServiceInfo(pub(crate) Arc<dyn ErasedBackend>);

impl ServiceInfo for TextServiceInfo {
    fn checkpoint(&self) -> Result<String, ModelError> {
        self.0.describe().map(|model| model.checkpoint)
    }

    fn operations(&self) -> &'static [Operation] {
        &routes::OPERATIONS
    }

    fn document(&self, name: &str) -> utoipa::openapi::OpenApi {
        openapi::document(name)
    }

    fn speaks_openai(&self, path: &str) -> bool {
        openapi::speaks_openai(path)
    }
}

/// Starts an engine over the backend's loader, whatever the backend's types are.
pub(crate) type StartEngine =
    Box<dyn Fn(EngineConfig, Arc<dyn Language>) -> std::io::Result<TextEngine> + Send + Sync>;

/// One text service in one process.
pub(crate) struct TextService {
    pub(crate) shell: Arc<Shell>,
    pub(crate) front: Arc<dyn ErasedBackend>,
    pub(crate) settings: TextSettings,
    pub(crate) telemetry: StreamingTelemetryCollector,
    pub(crate) metrics: TextMetrics,
    pub(crate) kept: Arc<KeptStreams>,
    pub(crate) start_engine: StartEngine,
    pub(crate) ready: OnceCell<Arc<Ready>>,
    /// Unix seconds.
    pub(crate) started_at: i64,
}

impl TextService {
    pub(crate) fn name(&self) -> &str {
        self.shell.name()
    }

    /// Tokenizer, template and engine; read and started at the first use. Needs no weights.
    pub(crate) async fn ready(self: &Arc<Self>) -> HandlerResult<Arc<Ready>> {
        let made = self.ready.get_or_try_init(|| async {
            let shared = Arc::clone(self);
            run_blocking(move || Ready::prepare(&shared)).await?.map_err(Failure::from)
        });
        made.await.cloned()
    }

    /// Everything that a generation needs, weights included: a load that fails is told before anything is streamed.
    pub(crate) async fn loaded(self: &Arc<Self>) -> HandlerResult<Arc<Ready>> {
        self.shell.refuse_when_draining()?;
        let ready = self.ready().await?;
        if self.shell.loader.report().state != videosdgx_api::LoaderState::Loaded {
            // In a task of its own: a client that leaves does not stop the load for those who wait with it.
            tokio::spawn(self.shell.loader.warm_up()).await.map_err(Failure::internal)??;
        }
        Ok(ready)
    }

    /// What the engine does; all zero before the first request.
    pub(crate) fn engine_report(&self) -> EngineReport {
        let snapshot = self.ready.get().map(|ready| ready.engine.snapshot()).unwrap_or_default();
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
            prefix_hit_rate: share(snapshot.prefix_hits, snapshot.prefix_queries),
            prompt_tokens: snapshot.prompt_tokens,
            generated_tokens: snapshot.generated_tokens,
            preemptions: snapshot.preemptions,
            steps: snapshot.steps,
            recovered_steps: snapshot.recovered_steps,
            failed_steps: snapshot.failed_steps,
            requests: snapshot.requests,
            refused: snapshot.refused,
            kept_streams: self.kept.lost() as u64,
            draining: self.shell.drain.has_begun(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts shown as a share")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
