//! Starting a text service, and stopping it without cutting anybody off.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{dev::ServerHandle, web};
use tokio::sync::OnceCell;
use videosdgx_model::ModelLoader;
use videosdgx_shell::{ServiceConfig, Shell, StartError, Stoppable, system};
use videosdgx_text::{
    TextEngine,
    telemetry::{StreamingTelemetryCollector, TelemetryConfig},
};

use crate::{
    TextBackend, TextSettings,
    backend::{BackendLoad, ErasedBackend},
    metrics::TextMetrics,
    routes,
    service::{TextService, TextServiceInfo},
    socket::KeptStreams,
};

/// What streams that were told to end get to do so.
const STOP_TIME: Duration = Duration::from_secs(4);

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
    /// Starts the inference thread and listens; loads nothing. Call it inside an actix runtime.
    ///
    /// # Errors
    /// When keys or the address cannot be used, or the system gives no thread.
    pub async fn start<B: TextBackend>(
        backend: B,
        config: ServiceConfig,
        settings: TextSettings,
    ) -> Result<Self, StartError> {
        let backend = Arc::new(backend);
        let front: Arc<dyn ErasedBackend> = Arc::clone(&backend) as _;
        let loader = ModelLoader::new(BackendLoad(backend), videosdgx_shell::loader_config(&config))
            .map_err(system("start the inference thread"))?;
        let telemetry = StreamingTelemetryCollector::new(TelemetryConfig {
            sampling: settings.telemetry_sampling,
            ..TelemetryConfig::default()
        });
        let info = Arc::new(TextServiceInfo(Arc::clone(&front)));
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
        let kept = KeptStreams::new(settings.resume, settings.buffer_size, metrics.clone());
        let service = Arc::new(TextService {
            metrics,
            kept: Arc::new(kept),
            shell,
            front,
            settings,
            telemetry,
            start_engine,
            ready: OnceCell::new(),
            started_at: routes::completions::unix_seconds(),
        });
        let routes = {
            let service: web::Data<TextService> = Arc::clone(&service).into();
            move |config: &mut web::ServiceConfig| {
                config.app_data(service.clone());
                routes::configure(config);
            }
        };
        let server =
            videosdgx_shell::serve(&service.shell, listener, routes).map_err(system("start the server"))?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        tracing::info!(model = service.name(), %address, "service_started");
        Ok(Self { address, service, server: handle })
    }

    /// The address really bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:43121`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes nothing new, lets streams end within the grace time, ends those that do not with the error `draining`, and stops.
    /// Whether all of it ended.
    pub async fn drain(self) -> bool {
        let Self { service, server, .. } = self;
        let grace = service.shell.config.drain;
        let deadline = Instant::now() + grace;
        tracing::info!(seconds = grace.as_secs_f64(), "drain_began");
        service.shell.drain.begin();
        service.kept.give_up_lost();
        let mut over = true;
        if let Some(ready) = service.ready.get() {
            let left = deadline.saturating_duration_since(Instant::now());
            over = tokio::time::timeout(left, ready.engine.drain()).await.is_ok();
            if !over {
                tracing::warn!("open_streams_are_ended");
                ready.engine.abort();
                over = tokio::time::timeout(STOP_TIME, ready.engine.drain()).await.is_ok();
            }
        }
        // The last events of streams that were ended still go out.
        let deadline = deadline.max(Instant::now() + Duration::from_secs(1));
        videosdgx_shell::close_server(&service.shell, &server, deadline).await;
        service.shell.loader.close();
        tracing::info!("drain_ended");
        over
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
