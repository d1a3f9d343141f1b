//! Starting a text service, and stopping it with a grace time for open streams.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix_web::{dev::ServerHandle, web};
use futures::future::join_all;
use videosdgx_model::ModelError;
use videosdgx_model::ModelLoader;
use videosdgx_shell::{ServiceApi, ServiceConfig, ServiceInfo, Shell, StartError, Stoppable, system};
use videosdgx_text::{
    TextEngine,
    telemetry::{StreamingTelemetryCollector, TelemetryConfig},
};

use crate::{
    TextBackend, TextSettings,
    checkpoints::{BackendLoad, Checkpoints},
    metrics::TextMetrics,
    openapi, routes,
    service::{TextService, unix_seconds},
    stream::resumable::ResumableStreams,
};

/// Time that aborted streams get to send their last events.
const ABORT_TIME: Duration = Duration::from_secs(4);

/// The service as the shell's routes see it.
struct TextServiceInfo(Arc<Checkpoints>);

impl ServiceInfo for TextServiceInfo {
    fn checkpoint(&self) -> Result<String, ModelError> {
        self.0.describe().map(|model| model.checkpoint)
    }

    fn api(&self) -> &'static ServiceApi {
        &routes::API
    }

    fn document(&self, name: &str) -> utoipa::openapi::OpenApi {
        openapi::document(name)
    }
}

/// A text service that runs in this process.
pub struct Running {
    address: SocketAddr,
    service: Arc<TextService>,
    server: ServerHandle,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Running {
    /// Starts the inference thread and listens; does not load the model. Call it inside an actix runtime.
    ///
    /// # Errors
    /// When the keys or the address cannot be used, or a thread cannot be started.
    pub async fn start<B: TextBackend>(
        backend: B,
        config: ServiceConfig,
        settings: TextSettings,
    ) -> Result<Self, StartError> {
        let backend = Arc::new(backend);
        let checkpoints = Arc::new(Checkpoints::new(Arc::clone(&backend) as _));
        let load = BackendLoad { backend, checkpoints: Arc::clone(&checkpoints) };
        let loader = ModelLoader::new(load, videosdgx_shell::loader_config(&config))
            .map_err(system("start the inference thread"))?;
        let telemetry = StreamingTelemetryCollector::new(TelemetryConfig {
            sampling: settings.telemetry_sampling,
            ..TelemetryConfig::default()
        });
        let info = Arc::new(TextServiceInfo(Arc::clone(&checkpoints)));
        let shell = Arc::new(Shell::new(config, info, Arc::new(loader.clone()))?);
        let (listener, address) = videosdgx_shell::bind(&shell.config)?;
        shell.metrics.add(|registry| telemetry.register(registry));
        let start_engine = {
            let telemetry = telemetry.clone();
            Box::new(move |config, language| {
                TextEngine::start(loader.clone(), config, language, telemetry.clone())
            })
        };
        let metrics = TextMetrics::new(&shell.metrics);
        let streams = ResumableStreams::new(settings.resume, settings.buffer_size, metrics.clone());
        let service = Arc::new(TextService {
            metrics,
            streams: Arc::new(streams),
            shell,
            checkpoints,
            settings,
            telemetry,
            start_engine,
            runtimes: Mutex::default(),
            started_at: unix_seconds(),
        });
        let routes = {
            let service: web::Data<TextService> = Arc::clone(&service).into();
            move |config: &mut web::ServiceConfig| {
                config.app_data(service.clone());
                routes::API.configure(config);
            }
        };
        let server =
            videosdgx_shell::serve(&service.shell, listener, routes).map_err(system("start the server"))?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        tracing::info!(model = service.name(), %address, "service_started");
        Ok(Self { address, service, server: handle })
    }

    /// The bound address; its port is never 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The service's base URL, such as `http://127.0.0.1:43121`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Shuts down: refuses new requests, lets streams finish within the grace time, ends the others with the error `draining`,
    /// and stops the server. Returns whether every stream ended.
    pub async fn drain(self) -> bool {
        let Self { service, server, .. } = self;
        let grace = service.shell.config.drain;
        let deadline = Instant::now() + grace;
        tracing::info!(seconds = grace.as_secs_f64(), "drain_began");
        service.shell.drain.begin();
        service.streams.discard_detached();
        let mut ended = true;
        let engines = service.engines();
        let drained = || join_all(engines.iter().map(TextEngine::drain));
        if !engines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            ended = tokio::time::timeout(left, drained()).await.is_ok();
            if !ended {
                tracing::warn!("open_streams_aborted");
                engines.iter().for_each(TextEngine::abort);
                ended = tokio::time::timeout(ABORT_TIME, drained()).await.is_ok();
            }
        }
        // The last events of aborted streams are still sent.
        let deadline = deadline.max(Instant::now() + Duration::from_secs(1));
        videosdgx_shell::close_server(&service.shell, &server, deadline).await;
        service.shell.loader.close();
        tracing::info!("drain_ended");
        ended
    }
}

impl Stoppable for Running {
    fn url(&self) -> String {
        Running::url(self)
    }

    async fn drain(self) -> bool {
        Running::drain(self).await
    }
}
