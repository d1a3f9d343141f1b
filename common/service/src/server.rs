//! Starting a service, and stopping it without cutting anybody off.

use std::{
    any::Any,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    App, HttpServer,
    dev::{Extensions, ServerHandle},
    middleware::from_fn,
    rt::net::TcpStream,
    web,
};
use videosdgx_auth::{AuthConfig, AuthError, HttpJwksFetcher, Verifier};
use videosdgx_jobs::{
    Queue, QueueError,
    sqlite::{SqliteOptions, SqliteQueue},
};
use videosdgx_model::Host;

use crate::{
    Engine, ServiceConfig,
    drain::Drain,
    edge::edge,
    loading,
    metrics::Metrics,
    outputs::Outputs,
    problem_response::{Failure, of_status},
    routes,
    service::Service,
    sweep,
    worker::Worker,
};

/// Threads that serve; inference has its own.
const SERVING_THREADS: usize = 2;
/// Threads for files and pictures, for each serving thread.
const BLOCKING_THREADS: usize = 8;
const CONNECTIONS_PER_THREAD: usize = 1024;
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// What a client gets to close a connection that the service has closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
const IDLE_CONNECTION: Duration = Duration::from_secs(15);
/// A reader that takes nothing for so long is cut off by the kernel.
const STALLED_READER: Duration = Duration::from_secs(30);
/// What a job that was told to stop gets to do so.
const STOP_TIME: Duration = Duration::from_secs(4);

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keys cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The queue cannot be opened.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A folder, a thread or a socket.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// What the system answered.
        source: std::io::Error,
    },
}

fn system(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let action = action.into();
    move |source| StartError::System { action, source }
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
    /// Opens the state folder, starts the worker and listens. Call it inside an actix or tokio runtime.
    ///
    /// # Errors
    /// When keys, queue, folders or the address cannot be used.
    pub async fn start<E: Engine>(engine: E, config: ServiceConfig) -> Result<Self, StartError> {
        let engine = Arc::new(engine);
        let verifier = verifier(&config.auth)?;
        std::fs::create_dir_all(&config.state_dir)
            .map_err(system(format!("make {}", config.state_dir.display())))?;
        let outputs =
            Outputs::open(&config.outputs_dir, &config.state_dir).map_err(system("use the folders"))?;
        let queue = open_queue(&config, &outputs)?;
        let loader = loading::loader(&engine, &config).map_err(system("start the inference thread"))?;
        let listener =
            TcpListener::bind(config.listen).map_err(system(format!("listen on {}", config.listen)))?;
        let address = listener.local_addr().map_err(system("read the address"))?;
        let (gone_sender, gone) = tokio::sync::oneshot::channel();
        let service = web::Data::new(Service {
            engine: Arc::clone(&engine) as _,
            loader: Arc::new(loader.clone()),
            queue,
            verifier,
            host: Host::probe(),
            outputs,
            metrics: Metrics::new(&config.name),
            drain: Drain::default(),
            config,
            gone: gone_sender,
        });
        sweep::scratch(&service).map_err(system("clean the scratch folder"))?;
        let server = serve(&service, listener).map_err(system("start the server"))?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let worker = Worker::new(Arc::clone(&service), engine, loader);
        std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || worker.run())
            .map_err(system("start the worker"))?;
        tracing::info!(model = service.name(), %address, "service_started");
        Ok(Self { address, service, server: handle, gone })
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

    /// Takes nothing new, lets the running job and open downloads end within the grace time, gives the job back to the queue
    /// when it does not, and stops. Whether all of it ended: if not, the inference thread still computes and the process must
    /// end without waiting for it. If so, the state folder is free afterwards.
    pub async fn drain(self) -> bool {
        let Self { service, server, gone, .. } = self;
        let deadline = Instant::now() + service.config.drain;
        tracing::info!(seconds = service.config.drain.as_secs_f64(), "drain_began");
        service.drain.begin();
        service.queue.close_claims();
        let mut over = service.drain.worker_over(deadline.saturating_duration_since(Instant::now())).await;
        if !over {
            tracing::warn!("running_job_is_given_back");
            service.drain.interrupt_job();
            over = service.drain.worker_over(STOP_TIME).await;
        }
        if !over && let Some(lease) = service.drain.running_lease() {
            // The engine does not look: from now on the queue refuses whatever this attempt still writes.
            if let Err(error) = service.queue.release(&lease, Duration::ZERO).await {
                tracing::warn!(job_id = %lease.job, %error, "job_not_given_back");
            }
        }
        if !service.drain.answers_over(deadline.saturating_duration_since(Instant::now())).await {
            tracing::warn!("open_answers_are_cut");
        }
        server.stop(true).await;
        service.loader.close();
        drop(service);
        if over && tokio::time::timeout(STOP_TIME, gone).await.is_err() {
            tracing::warn!("state_folder_is_still_held");
        }
        tracing::info!("drain_ended");
        over
    }
}

/// TLS and its roots are only brought up where keys come from a URL.
fn verifier(config: &AuthConfig) -> Result<Verifier, AuthError> {
    if config.jwks_url.is_some() {
        Verifier::with_fetcher(config, HttpJwksFetcher::new()?)
    } else {
        Verifier::from_config(config)
    }
}

/// Files of jobs that are forgotten, by their owner or by age, go with them.
fn open_queue(config: &ServiceConfig, outputs: &Outputs) -> Result<Arc<dyn Queue>, QueueError> {
    let outputs = outputs.clone();
    let options = SqliteOptions::new(&config.state_dir).with_config(config.queue.clone()).with_on_forgotten(
        Arc::new(move |forgotten| {
            if let Some(name) = &forgotten.output_path {
                outputs.remove(name);
            }
            outputs.remove_scratch(&forgotten.id);
        }),
    );
    Ok(Arc::new(SqliteQueue::open(options)?))
}

fn serve(service: &web::Data<Service>, listener: TcpListener) -> std::io::Result<actix_web::dev::Server> {
    let service = service.clone();
    let server = HttpServer::new(move || {
        App::new().app_data(service.clone()).wrap(from_fn(edge)).configure(routes::configure).default_service(
            web::to(|request: actix_web::HttpRequest| async move {
                let problem = of_status(actix_web::http::StatusCode::NOT_FOUND, request.path());
                Err::<actix_web::HttpResponse, _>(Failure(problem))
            }),
        )
    });
    let server = server
        .workers(SERVING_THREADS)
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .max_connections(CONNECTIONS_PER_THREAD)
        .client_request_timeout(HEADERS_WITHIN)
        .client_disconnect_timeout(CLOSED_WITHIN)
        .keep_alive(IDLE_CONNECTION)
        // By then no answer is on its way: only idle connections are left.
        .shutdown_timeout(1)
        .disable_signals()
        .on_connect(tune)
        .listen(listener)?;
    Ok(server.run())
}

/// Small events go out at once; a reader that takes nothing is cut off.
fn tune(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>() {
        let socket = socket2::SockRef::from(stream);
        let tuned = socket
            .set_tcp_nodelay(true)
            .and_then(|()| socket.set_tcp_user_timeout(Some(STALLED_READER)))
            .and_then(|()| socket.set_keepalive(true));
        if let Err(error) = tuned {
            tracing::debug!(%error, "connection_not_tuned");
        }
    }
}
