//! The listener: accepts, limits, shuts down gracefully.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::config::duration;
use crate::guarded_body::GuardedBody;
use crate::layers::request_id::Peer;
use crate::socket::{Answering, Phase, Socket, Times};
use crate::{Gateway, GatewayConfig, GatewayError, stack};

/// Largest header of a request, in bytes; also the read buffer.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Most header fields of a request.
const MAX_HEADERS: usize = 100;
/// A pause when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A gateway that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    gateway: Arc<Gateway>,
    router: Router,
}

impl Server {
    /// Listens, loads the keys and begins to watch the services.
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
        gateway.watch();
        Ok(Self { listener, address, gateway, router })
    }

    /// Where it listens, with the port really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes; then `/ready` says so at once, nothing new is taken, and what is under way
    /// may finish within the grace time.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let limits = &self.gateway.config.limits;
        let times = Times {
            header: duration(limits.header_seconds),
            idle: duration(limits.idle_seconds),
            write_stall: duration(limits.write_stall_seconds),
        };
        let drain = duration(limits.drain_seconds);
        let places = Arc::new(Semaphore::new(limits.max_connections));
        let draining = CancellationToken::new();
        let (serving, late) = (TaskTracker::new(), TaskTracker::new());
        let accept =
            |tracker: &TaskTracker, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit| {
                let connection =
                    Connection { router: self.router.clone(), peer, times, draining: draining.clone() };
                tracker.spawn(async move {
                    connection.serve(stream).await;
                    drop(place);
                });
            };
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                (stream, peer, place) = self.accept(&places) => accept(&serving, stream, peer, place),
            }
        }
        tracing::info!(event = "draining", connections = serving.len());
        self.gateway.drain();
        draining.cancel();
        serving.close();
        self.gateway.tunnels.close();
        let over = tokio::time::sleep(drain);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = async { tokio::join!(serving.wait(), self.gateway.tunnels.wait()); } => break,
                () = &mut over => {
                    let sockets = self.gateway.tunnels.len();
                    tracing::warn!(event = "drain_over", connections = serving.len(), sockets);
                    break;
                }
                // Health checkers still learn that this one is going.
                (stream, peer, place) = self.accept(&places) => accept(&late, stream, peer, place),
            }
        }
        self.gateway.stop_watching();
        tracing::info!(event = "stopped");
    }

    async fn accept(&self, places: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            // Never closed, so this cannot fail.
            let Ok(place) = Arc::clone(places).acquire_owned().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, place),
                Err(error) => {
                    tracing::warn!(event = "accept_failed", %error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

struct Connection {
    router: Router,
    peer: SocketAddr,
    times: Times,
    draining: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let phase = Phase::new();
        let socket = TokioIo::new(Socket::new(stream, self.times, phase.clone()));
        let (router, peer) = (self.router, self.peer);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            answer(router.clone(), request, peer, phase.clone())
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            // The socket's own clocks are stricter; this one also covers a header behind another request.
            .header_read_timeout(self.times.idle + self.times.header)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .keep_alive(!self.draining.is_cancelled());
        let connection = http.serve_connection(socket, service).with_upgrades();
        tokio::pin!(connection);
        let was_draining = self.draining.is_cancelled();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.draining.cancelled(), if !was_draining => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(event = "connection_broke", %error);
        }
    }
}

async fn answer(
    mut router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    phase: Phase,
) -> Result<Response<Body>, std::convert::Infallible> {
    phase.busy();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer(peer));
    let response = router.call(request).await?;
    // An upgraded connection has no requests any more, so no clock.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let answering = Answering(phase);
    Ok(response.map(|body| GuardedBody::wrap(body, answering)))
}
