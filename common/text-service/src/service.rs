//! The state that the handlers of a text service share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use videosdgx_api::{Code, EngineReport, LoaderState, Problem, TextModelDescription};
use videosdgx_model::{CheckpointVersion, ModelError};
use videosdgx_shell::{Failure, HandlerResult, Shell, run_blocking};
use videosdgx_text::{TextEngine, telemetry::StreamingTelemetryCollector};

use crate::{
    checkpoints::Checkpoints,
    metrics::TextMetrics,
    runtime::{ModelRuntime, StartEngine},
    settings::TextSettings,
    stream::resumable::ResumableStreams,
};

/// One text service; every handler gets a reference to it.
pub(crate) struct TextService {
    pub(crate) shell: Arc<Shell>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) settings: TextSettings,
    pub(crate) telemetry: StreamingTelemetryCollector,
    pub(crate) metrics: TextMetrics,
    /// Streams of WebSockets, including those whose client may reconnect.
    pub(crate) streams: Arc<ResumableStreams>,
    pub(crate) start_engine: StartEngine,
    pub(crate) runtimes: Mutex<Runtimes>,
    /// Unix seconds.
    pub(crate) started_at: i64,
}

impl TextService {
    pub(crate) fn name(&self) -> &str {
        self.shell.name()
    }

    /// Tokenizer, template and engine of the loaded checkpoint, else of the installed one. Does not load the weights.
    pub(crate) async fn runtime(self: &Arc<Self>) -> HandlerResult<Arc<ModelRuntime>> {
        if let Some(loaded) = self.checkpoints.loaded()
            && let Some(runtime) = self.runtimes().of(loaded.version())
        {
            return Ok(runtime);
        }
        let service = Arc::clone(self);
        Ok(run_blocking(move || service.start_runtime()).await??)
    }

    /// Starts the engine of the current checkpoint, unless it runs already.
    fn start_runtime(&self) -> Result<Arc<ModelRuntime>, Problem> {
        let opened = self.checkpoints.current()?;
        let mut runtimes = self.runtimes();
        if let Some(runtime) = runtimes.of(opened.version()) {
            return Ok(runtime);
        }
        let (settings, metrics) = (&self.settings, self.metrics.clone());
        let runtime = ModelRuntime::start(self.name(), opened, settings, &self.start_engine, metrics)?;
        let runtime = Arc::new(runtime);
        runtimes.replace(Arc::clone(&runtime));
        Ok(runtime)
    }

    /// As [`TextService::runtime`], with the weights loaded: a load that fails is reported before a response begins.
    pub(crate) async fn loaded_runtime(self: &Arc<Self>) -> HandlerResult<Arc<ModelRuntime>> {
        let runtime = self.runtime().await?;
        self.load(&runtime).await?;
        Ok(runtime)
    }

    /// Loads the weights that belong to `runtime`, if they are not in memory.
    pub(crate) async fn load(&self, runtime: &ModelRuntime) -> HandlerResult<()> {
        self.shell.refuse_when_draining()?;
        if self.shell.loader.report().state != LoaderState::Loaded {
            // In its own task: a client that disconnects does not abort the load that other requests wait for.
            tokio::spawn(self.shell.loader.warm_up()).await.map_err(Failure::internal)??;
        }
        match self.checkpoints.loaded() {
            Some(loaded) if loaded.version() != runtime.opened.version() => {
                let detail = "the checkpoint was exchanged while the request was prepared; send it again";
                Err(Failure(Problem::new(Code::Overloaded, detail).with_retry_after(1)))
            }
            // Unloaded again meanwhile: the engine loads it.
            _ => Ok(()),
        }
    }

    /// The description of the loaded checkpoint, else of the installed one.
    pub(crate) async fn describe(&self) -> HandlerResult<Result<TextModelDescription, ModelError>> {
        let checkpoints = Arc::clone(&self.checkpoints);
        run_blocking(move || checkpoints.describe()).await
    }

    /// The runtime that was used last.
    pub(crate) fn last_runtime(&self) -> Option<Arc<ModelRuntime>> {
        self.runtimes().current.clone()
    }

    /// Every engine that may have open streams.
    pub(crate) fn engines(&self) -> Vec<TextEngine> {
        let runtimes = self.runtimes();
        let current = runtimes.current.iter().map(|runtime| runtime.engine.clone());
        current.chain(runtimes.retired.iter().cloned()).collect()
    }

    fn runtimes(&self) -> MutexGuard<'_, Runtimes> {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the `model` of a request: the service's name or the checkpoint's, or none.
    pub(crate) async fn check_model(self: &Arc<Self>, model: Option<&str>) -> HandlerResult<()> {
        let Some(requested) = model.filter(|model| *model != self.name()) else { return Ok(()) };
        if self.describe().await?.is_ok_and(|model| model.checkpoint == requested) {
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
        let snapshot = self.last_runtime().map(|runtime| runtime.engine.snapshot()).unwrap_or_default();
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

/// The engine of the checkpoint in use, and those of exchanged ones.
#[derive(Default)]
pub(crate) struct Runtimes {
    current: Option<Arc<ModelRuntime>>,
    /// Engines of earlier checkpoints whose streams may not have ended.
    retired: Vec<TextEngine>,
}

impl Runtimes {
    /// The current runtime if it belongs to this state of the checkpoint.
    fn of(&self, version: CheckpointVersion) -> Option<Arc<ModelRuntime>> {
        self.current.clone().filter(|runtime| runtime.opened.version() == version)
    }

    fn replace(&mut self, runtime: Arc<ModelRuntime>) {
        self.retired.retain(|engine| {
            let state = engine.snapshot();
            state.running + state.waiting + state.paused > 0
        });
        self.retired.extend(self.current.replace(runtime).map(|earlier| earlier.engine.clone()));
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
