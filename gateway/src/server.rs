//! The listener: accepts connections, limits them, shuts down gracefully.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use videosdgx_api::{Code, Problem};
use videosdgx_connection::{
    Admitted, ConnectionHandle, ConnectionLimits, Connections, TimedStream, Timeouts, names_websocket, refuse,
};

use crate::config::duration;
use crate::guarded_body::GuardedBody;
use crate::layers::request_id::Peer;
use crate::unread_body::UnreadBody;
use crate::workers::Workers;
use crate::{Gateway, GatewayConfig, GatewayError, stack};

/// Largest header of a request and size of the read buffer, in bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Maximum number of header fields of a request.
const MAX_HEADERS: usize = 100;
/// Pause after a failed accept, for example when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A gateway that listens.
///
/// ```no_run
/// use videosdgx_gateway::{GatewayConfig, Server};
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::start(GatewayConfig::from_env()?).await?;
/// println!("listening on http://{}", server.address());
/// server.run(async { drop(tokio::signal::ctrl_c().await) }).await;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    gateway: Arc<Gateway>,
    router: Router,
    workers: Workers,
}

impl Server {
    /// Binds the address, loads the keys and starts the health checks of the services.
    ///
    /// # Errors
    /// When the address, the keys or the configuration cannot be used.
    pub async fn start(config: GatewayConfig) -> Result<Self, GatewayError> {
        let address = config.listen;
        let failed = |source| GatewayError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let gateway = Gateway::new(config).await?;
        let router = stack::stack(&gateway);
        gateway.start_background_tasks();
        let workers = Workers::start().map_err(GatewayError::Workers)?;
        Ok(Self { listener, address, gateway, router, workers })
    }

    /// The address it listens on, with the actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes. Then `/ready` answers 503, new requests are refused, and requests in flight may
    /// finish within the drain time.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let limits = &self.gateway.config.limits;
        let timeouts = Timeouts {
            header: duration(limits.header_seconds),
            idle: duration(limits.idle_seconds),
            write_stall: duration(limits.write_stall_seconds),
        };
        let drain = duration(limits.drain_seconds);
        let connections = Connections::new(ConnectionLimits {
            max: limits.max_connections,
            max_per_address: limits.max_connections_per_address,
            shared: self.gateway.config.trusted_proxies.clone(),
        });
        let draining = CancellationToken::new();
        let (serving, late) = (TaskTracker::new(), TaskTracker::new());
        let accept = |tracker: &TaskTracker, stream: TcpStream, peer: SocketAddr| {
            let Some(admitted) = connections.admit(peer.ip()) else {
                self.gateway.metrics.limited("connections");
                tokio::spawn(async move { refuse(stream, &refusal()).await });
                return;
            };
            let connection =
                Connection { router: self.router.clone(), peer, timeouts, draining: draining.clone() };
            // Taken out of this thread's runtime, for that of the worker.
            let Ok(stream) = stream.into_std() else { return };
            let serve = async move {
                if let Ok(stream) = TcpStream::from_std(stream) {
                    connection.serve(stream, admitted).await;
                }
            };
            tracker.spawn_on(serve, self.workers.next());
        };
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                (stream, peer) = self.accept() => accept(&serving, stream, peer),
            }
        }
        tracing::info!(event = "draining", connections = serving.len());
        self.gateway.drain();
        draining.cancel();
        serving.close();
        self.gateway.tunnels.close();
        let drain_over = tokio::time::sleep(drain);
        tokio::pin!(drain_over);
        loop {
            tokio::select! {
                () = async { tokio::join!(serving.wait(), self.gateway.tunnels.wait()); } => break,
                () = &mut drain_over => {
                    let sockets = self.gateway.tunnels.len();
                    tracing::warn!(event = "drain_over", connections = serving.len(), sockets);
                    break;
                }
                // Health checks are still answered, so that load balancers see the shutdown.
                (stream, peer) = self.accept() => accept(&late, stream, peer),
            }
        }
        self.gateway.stop_background_tasks();
        tracing::info!(event = "stopped");
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(event = "accept_failed", %error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The problem document for a connection that is not admitted.
fn refusal() -> String {
    let problem =
        Problem::new(Code::Overloaded, "too many connections are open, try again").with_retry_after(1);
    serde_json::to_string(&problem).unwrap_or_default()
}

struct Connection {
    router: Router,
    peer: SocketAddr,
    timeouts: Timeouts,
    draining: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream, admitted: Admitted) {
        videosdgx_connection::tune(&stream);
        let handle = admitted.handle().clone();
        let socket = TokioIo::new(TimedStream::new(stream, self.timeouts, admitted));
        let (router, peer) = (self.router, Peer::new(self.peer.ip()));
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            respond(router.clone(), request, peer.clone(), handle.clone())
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            // The stream has its own time limits, for every phase.
            .header_read_timeout(None::<Duration>)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .keep_alive(!self.draining.is_cancelled());
        let connection = http.serve_connection(socket, service).with_upgrades();
        tokio::pin!(connection);
        let was_draining = self.draining.is_cancelled();
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.draining.cancelled(), if !was_draining => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(event = "connection_broke", %error);
        }
    }
}

async fn respond(
    mut router: Router,
    request: Request<Incoming>,
    peer: Peer,
    handle: ConnectionHandle,
) -> Result<Response<Body>, std::convert::Infallible> {
    let guard = handle.begin_request();
    let asks_for_websocket =
        request.headers().get_all(UPGRADE).iter().any(|value| names_websocket(value.as_bytes()));
    let (mut request, unread) = UnreadBody::observe(request);
    request.extensions_mut().insert(peer);
    let mut response = router.call(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        guard.upgraded();
        return Ok(response);
    }
    if asks_for_websocket {
        // The framing of what follows was not checked.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status();
    unread.announce_close(status, response.headers_mut());
    Ok(response.map(|body| GuardedBody::wrap(body, guard)))
}
