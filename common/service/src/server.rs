//! Starting a video service, and stopping it without interrupting running work.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{dev::ServerHandle, web};
use videosdgx_jobs::{QueueError, private_folder, sqlite::SqliteOptions};
use videosdgx_model::ModelLoader;
use videosdgx_shell::{ServiceConfig, Shell, Stoppable, system};
use videosdgx_threads::spawn_vital;

use crate::{
    Engine, VideoSettings,
    engine::EngineLoad,
    metrics::JobMetrics,
    outputs::Outputs,
    retention, routes,
    running_job::RunningJob,
    service::{ErasedEngine, Service, VideoServiceInfo},
    worker::Worker,
};

/// Time that an interrupted job gets to stop.
const STOP_TIME: Duration = Duration::from_secs(4);

/// Why a video service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys, a folder, a thread or a socket are not available.
    #[error(transparent)]
    Shell(#[from] videosdgx_shell::StartError),
    /// The queue cannot be opened.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// A service that runs in this process.
pub struct Running {
    address: SocketAddr,
    service: web::Data<Service>,
    server: ServerHandle,
    gone: tokio::sync::oneshot::Receiver<std::convert::Infallible>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Running {
    /// Opens the state folder, starts the worker and listens. Call it inside an actix runtime.
    ///
    /// # Errors
    /// When keys, queue, folders or the address cannot be used.
    pub async fn start<E: Engine>(
        engine: E,
        config: ServiceConfig,
        settings: VideoSettings,
    ) -> Result<Self, StartError> {
        let engine = Arc::new(engine);
        let erased: Arc<dyn ErasedEngine> = Arc::clone(&engine) as _;
        let loader =
            ModelLoader::new(EngineLoad(Arc::clone(&engine)), videosdgx_shell::loader_config(&config))
                .map_err(system("start the inference thread"))?;
        let info = Arc::new(VideoServiceInfo(Arc::clone(&erased)));
        let shell = Arc::new(Shell::new(config, info, Arc::new(loader.clone()))?);
        let config = &shell.config;
        private_folder(&config.state_dir).map_err(system(format!("make {}", config.state_dir.display())))?;
        let outputs =
            Outputs::open(&settings.outputs_dir, &config.state_dir).map_err(system("use the folders"))?;
        let queue = retention::open_queue(SqliteOptions::new(&config.state_dir), &settings, &outputs)?;
        let (listener, address) = videosdgx_shell::bind(config)?;
        let (gone_sender, gone) = tokio::sync::oneshot::channel();
        let service = web::Data::new(Service {
            engine: erased,
            settings,
            queue,
            outputs,
            metrics: JobMetrics::new(&shell.metrics),
            running_job: RunningJob::default(),
            shell,
            gone: gone_sender,
        });
        retention::sweep_scratch(&service).map_err(system("clean the scratch folder"))?;
        let routes = {
            let service = service.clone();
            move |config: &mut web::ServiceConfig| {
                config.app_data(service.clone());
                routes::API.configure(config);
            }
        };
        let server =
            videosdgx_shell::serve(&service.shell, listener, routes).map_err(system("start the server"))?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let worker = Worker::new(Arc::clone(&service), engine, loader);
        spawn_vital("worker", move || worker.run()).map_err(system("start the worker"))?;
        tracing::info!(model = service.name(), %address, "service_started");
        Ok(Self { address, service, server: handle, gone })
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:43121`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Refuses new work, lets the running job and open downloads end within the grace time, returns an unfinished job to the
    /// queue, and stops. Returns whether all work has ended. If not, the inference thread is still computing and the process
    /// must end without waiting for it; if so, the state folder is free afterwards.
    pub async fn drain(self) -> bool {
        let Self { service, server, gone, .. } = self;
        let grace = service.shell.config.drain;
        let deadline = Instant::now() + grace;
        tracing::info!(seconds = grace.as_secs_f64(), "drain_began");
        service.shell.drain.begin();
        service.queue.close_claims();
        let job = &service.running_job;
        let mut over = job.worker_over(deadline.saturating_duration_since(Instant::now())).await;
        if !over {
            tracing::warn!("running_job_is_given_back");
            job.interrupt();
            over = job.worker_over(STOP_TIME).await;
        }
        if !over && let Some(lease) = job.lease() {
            // The engine did not stop: from now on the queue refuses all writes of this attempt.
            if let Err(error) = service.queue.release(&lease, None, Duration::ZERO).await {
                tracing::warn!(job_id = %lease.job, %error, "job_not_given_back");
            }
        }
        videosdgx_shell::close_server(&service.shell, &server, deadline).await;
        service.shell.loader.close();
        drop(service);
        if over && tokio::time::timeout(STOP_TIME, gone).await.is_err() {
            tracing::warn!("state_folder_is_still_held");
        }
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
