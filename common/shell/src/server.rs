//! Listening and serving with limits on connections, and closing after open responses have ended.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_http::{HttpService, Protocol, Request, error::DispatchError};
use actix_service::{IntoServiceFactory, ServiceFactoryExt as _, map_config};
use actix_web::{
    App,
    dev::{AppConfig, Server, ServerHandle, fn_service},
    middleware::from_fn,
    rt::net::TcpStream,
    web,
};
use videosdgx_api::{Code, Problem};
use videosdgx_auth::{AuthConfig, AuthError, HttpJwksFetcher, Verifier};
use videosdgx_connection::{ConnectionLimits, Connections, TimedStream, Timeouts, refuse};

use crate::{Failure, ServiceConfig, Shell, StartError, edge, problem_response::of_status};

/// Threads that serve; inference has its own.
const SERVING_THREADS: usize = 2;
/// Threads for files and pictures, for each serving thread.
const BLOCKING_THREADS: usize = 8;
/// Open connections. For a further one, a connection that waits for a request is closed; see [`Connections`].
const CONNECTIONS: usize = 2048;
/// Connections above [`CONNECTIONS`] that are being refused.
const REFUSALS: usize = 256;
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Time that a client has to close a connection which the service has closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// Maps an I/O error to [`StartError::System`]; `action` is an infinitive.
pub fn system(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let action = action.into();
    move |source| StartError::System { action, source }
}

/// The socket that `config` names, and its address.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(config: &ServiceConfig) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener =
        TcpListener::bind(config.listen).map_err(system(format!("listen on {}", config.listen)))?;
    let address = listener.local_addr().map_err(system("read the address"))?;
    Ok((listener, address))
}

/// The verifier of `config`. TLS is initialised only when keys come from a URL.
///
/// # Errors
/// When the keys cannot be used.
pub fn verifier(config: &AuthConfig) -> Result<Verifier, AuthError> {
    if config.jwks_url.is_some() {
        Verifier::with_fetcher(config, HttpJwksFetcher::new()?)
    } else {
        Verifier::from_config(config)
    }
}

/// Serves the routes that `configure` adds, with `shell` as their `web::Data<Shell>`, inside the outermost middleware. Await the server.
///
/// # Errors
/// When a thread cannot be started or the socket cannot be used.
pub fn serve(
    shell: &Arc<Shell>,
    listener: TcpListener,
    configure: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
) -> std::io::Result<Server> {
    let shell: web::Data<Shell> = Arc::clone(shell).into();
    let address = listener.local_addr()?;
    let connections = Connections::new(ConnectionLimits::new(CONNECTIONS));
    let timeouts = shell.config.timeouts;
    let server = Server::build()
        .workers(SERVING_THREADS)
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .max_concurrent_connections(CONNECTIONS + REFUSALS)
        // At this point no response is open: only idle connections are left.
        .shutdown_timeout(1)
        .disable_signals();
    let stopping = server.graceful_shutdown_signal();
    let server = server.listen("http", listener, move || {
        let app = App::new()
            .app_data(shell.clone())
            .wrap(from_fn(edge))
            .configure(configure.clone())
            .default_service(web::to(|request: actix_web::HttpRequest| async move {
                let problem = of_status(actix_web::http::StatusCode::NOT_FOUND, request.path());
                Err::<actix_web::HttpResponse, _>(Failure(problem))
            }));
        let app = IntoServiceFactory::<_, Request>::into_factory(app)
            .map_err(|error: actix_web::Error| error.error_response());
        // It only names a host for the generation of URLs, which no route uses.
        let app = map_config(app, |()| AppConfig::default());
        let (connections, stopping) = (Arc::clone(&connections), stopping.clone());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .client_request_timeout(HEADERS_WITHIN)
            .client_disconnect_timeout(CLOSED_WITHIN)
            .keep_alive(IDLE_CONNECTION)
            // A client that disconnects cancels its request.
            .h1_allow_half_closed(false)
            .local_addr(address)
            .on_connect_ext(|stream: &TimedStream<TcpStream>, data| {
                data.insert(stream.handle().clone());
            })
            .finish(app);
        fn_service(move |stream: TcpStream| admit(Arc::clone(&connections), timeouts, stream)).and_then(http)
    })?;
    Ok(server.run())
}

type Accepted = (TimedStream<TcpStream>, Protocol, Option<SocketAddr>);

/// Finds a place for a connection, or refuses it.
async fn admit(
    connections: Arc<Connections>,
    timeouts: Timeouts,
    stream: TcpStream,
) -> Result<Accepted, DispatchError> {
    videosdgx_connection::tune(&stream);
    let peer = stream.peer_addr().ok();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    if let Some(admitted) = connections.admit(address) {
        return Ok((TimedStream::new(stream, timeouts, admitted), Protocol::Http1, peer));
    }
    tracing::debug!(%address, "connection_refused");
    let problem =
        Problem::new(Code::Overloaded, "too many connections are open, try again").with_retry_after(1);
    refuse(stream, &serde_json::to_string(&problem).unwrap_or_default()).await;
    Err(DispatchError::Io(std::io::ErrorKind::ConnectionRefused.into()))
}

/// Waits for open responses until `deadline`, then stops serving.
pub async fn close_server(shell: &Shell, server: &ServerHandle, deadline: Instant) {
    if !shell.drain.wait_for_responses(deadline.saturating_duration_since(Instant::now())).await {
        tracing::warn!("open_answers_are_cut");
    }
    server.stop(true).await;
}
