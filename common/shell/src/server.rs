//! Listening and serving with limits on connections, and closing after open responses have ended.

use std::{
    any::Any,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    App, HttpServer,
    dev::{Extensions, Server, ServerHandle},
    middleware::from_fn,
    rt::net::TcpStream,
    web,
};
use videosdgx_auth::{AuthConfig, AuthError, HttpJwksFetcher, Verifier};

use crate::{Failure, ServiceConfig, Shell, StartError, edge, problem_response::of_status};

/// Threads that serve; inference has its own.
const SERVING_THREADS: usize = 2;
/// Threads for files and pictures, for each serving thread.
const BLOCKING_THREADS: usize = 8;
const CONNECTIONS_PER_THREAD: usize = 1024;
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Time that a client has to close a connection which the service has closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
const IDLE_CONNECTION: Duration = Duration::from_secs(15);
/// The kernel closes a connection whose client has read nothing for this long.
const STALLED_READER: Duration = Duration::from_secs(30);

/// Maximum number of unsent bytes that the kernel buffers for a client, so that a slow reader is noticed soon and costs
/// little memory.
const UNSENT: u32 = 128 * 1024;

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
    let server = HttpServer::new(move || {
        App::new().app_data(shell.clone()).wrap(from_fn(edge)).configure(configure.clone()).default_service(
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
        // A client that disconnects cancels its request.
        .h1_allow_half_closed(false)
        // At this point no response is open: only idle connections are left.
        .shutdown_timeout(1)
        .disable_signals()
        .on_connect(tune)
        .listen(listener)?;
    Ok(server.run())
}

/// Waits for open responses until `deadline`, then stops serving.
pub async fn close_server(shell: &Shell, server: &ServerHandle, deadline: Instant) {
    if !shell.drain.wait_for_responses(deadline.saturating_duration_since(Instant::now())).await {
        tracing::warn!("open_answers_are_cut");
    }
    server.stop(true).await;
}

/// Sends small events at once, and closes connections whose client reads nothing.
fn tune(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>() {
        let socket = socket2::SockRef::from(stream);
        let tuned = socket
            .set_tcp_nodelay(true)
            .and_then(|()| socket.set_tcp_user_timeout(Some(STALLED_READER)))
            .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT))
            .and_then(|()| socket.set_keepalive(true));
        if let Err(error) = tuned {
            tracing::debug!(%error, "connection_not_tuned");
        }
    }
}
