//! The state that all handlers and layers share.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures::FutureExt as _;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use videosdgx_auth::{HttpJwksFetcher, KeyFolder, Verifier};
use videosdgx_connection::BodyBudget;

use crate::config::duration;
use crate::forwarding_client::{ForwardingClient, ForwardingClients, IDLE_CONNECTIONS, IDLE_TIME};
use crate::layers::rate::{self, ByPeer, ByPrincipal};
use crate::metrics::Metrics;
use crate::shares::Shares;
use crate::upstream::{self, JobLocations, Models};
use crate::workers::PerWorker;
use crate::{GatewayConfig, GatewayError, openapi};

/// How often the rate limiters drop keys that have been idle.
const EVICTION_INTERVAL: Duration = Duration::from_secs(60);
/// Pause before a background task that panicked is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// The state that all handlers and layers share.
pub(crate) struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) verifier: Verifier,
    pub(crate) models: Models,
    /// For the gateway's own requests to services: HTTP/1.1, no redirects, no decompression.
    pub(crate) client: reqwest::Client,
    forwarding: PerWorker<ForwardingClient>,
    pub(crate) metrics: Metrics,
    pub(crate) job_locations: JobLocations,
    /// Requests in flight, in total and of each client address.
    pub(crate) in_flight: Arc<Shares<IpAddr>>,
    /// Bytes of request bodies that may be buffered at once, to be routed by the `model` in them.
    pub(crate) buffers: Arc<BodyBudget>,
    /// Open WebSockets, in total and of each principal.
    pub(crate) sockets: Arc<Shares<Arc<str>>>,
    /// The tasks that relay the bytes of open WebSockets.
    pub(crate) tunnels: TaskTracker,
    pub(crate) peer_rate: Arc<rate::Config<ByPeer>>,
    pub(crate) principal_rate: Arc<rate::Config<ByPrincipal>>,
    pub(crate) started: Timestamp,
    draining: CancellationToken,
    stopped: CancellationToken,
    /// The merged OpenAPI document, until a service's document changes.
    document: Mutex<Option<Bytes>>,
    document_stale: AtomicBool,
}

impl Gateway {
    pub(crate) async fn new(config: GatewayConfig) -> Result<Arc<Self>, GatewayError> {
        if let Some(dir) = config.auth.key_dir() {
            let folder = KeyFolder::load_or_create(&dir)?;
            if folder.was_created() {
                let folder = dir.display().to_string();
                tracing::info!(event = "key_made", folder, next = "mint a token with `videosdgx token`");
            }
        }
        let verifier = Verifier::with_fetcher(&config.auth, HttpJwksFetcher::new()?)?;
        if config.auth.jwks_url.is_some()
            && let Err(error) = verifier.refresh().await
        {
            tracing::warn!(event = "key_refresh_failed", %error);
        }
        let limits = &config.limits;
        let client = reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .referer(false)
            .tcp_nodelay(true)
            .connect_timeout(duration(limits.connect_seconds))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIME)
            .build()?;
        let clients = ForwardingClients::new(&config)?;
        let forwarding = PerWorker::new(|| clients.client());
        let impossible = |name: &str| GatewayError::Configuration {
            name: name.to_owned(),
            reason: "the rate cannot be used".to_owned(),
        };
        let peer_rate = rate::config(ByPeer, limits.peer_rate).ok_or_else(|| impossible("peer_rate"))?;
        let principal_rate =
            rate::config(ByPrincipal, limits.principal_rate).ok_or_else(|| impossible("principal_rate"))?;
        Ok(Arc::new(Self {
            verifier,
            models: Models::new(&config.models),
            client,
            forwarding,
            metrics: Metrics::new(),
            job_locations: JobLocations::default(),
            in_flight: Shares::new(limits.max_in_flight, limits.max_in_flight_per_address),
            buffers: limits.body_budget(),
            sockets: Shares::new(limits.max_sockets, limits.max_sockets_per_principal),
            tunnels: TaskTracker::new(),
            peer_rate,
            principal_rate,
            started: Timestamp::now(),
            draining: CancellationToken::new(),
            stopped: CancellationToken::new(),
            document: Mutex::default(),
            document_stale: AtomicBool::new(true),
            config,
        }))
    }

    /// Starts the health checks and the eviction of idle rate limit keys, until [`Gateway::stop_background_tasks`].
    pub(crate) fn start_background_tasks(self: &Arc<Self>) {
        let interval = duration(self.config.limits.health_seconds);
        for model in self.models.iter() {
            for upstream in &model.upstreams {
                let (gateway, model, upstream) = (Arc::clone(self), Arc::clone(model), Arc::clone(upstream));
                self.spawn("health", move || {
                    let gateway = Arc::clone(&gateway);
                    let client = gateway.client.clone();
                    let on_document = move || gateway.document_stale.store(true, Ordering::Release);
                    upstream::watch(client, Arc::clone(&model), Arc::clone(&upstream), interval, on_document)
                });
            }
        }
        let (peers, principals) = (Arc::clone(&self.peer_rate), Arc::clone(&self.principal_rate));
        self.spawn("peer_rate", move || rate::evict_idle(Arc::clone(&peers), EVICTION_INTERVAL));
        self.spawn("principal_rate", move || rate::evict_idle(Arc::clone(&principals), EVICTION_INTERVAL));
    }

    /// The client that forwards requests, with the connections of the current worker.
    pub(crate) fn forwarding(&self) -> &ForwardingClient {
        self.forwarding.get()
    }

    /// Runs a background task until [`Gateway::stop_background_tasks`]; one that panics is started again.
    fn spawn<T>(&self, name: &'static str, task: impl Fn() -> T + Send + 'static)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let stopped = self.stopped.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(restarted(name, task)).await });
    }

    pub(crate) fn stop_background_tasks(&self) {
        self.stopped.cancel();
    }

    /// Begins to drain: new requests are refused from now on.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Cancelled when the gateway begins to drain.
    pub(crate) fn draining_token(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Completes when the gateway begins to drain.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        self.draining.clone().cancelled_owned()
    }

    /// The OpenAPI document of the gateway and all services, as JSON.
    pub(crate) fn document(&self) -> Bytes {
        let mut document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = self.document_stale.swap(false, Ordering::AcqRel);
        match &*document {
            Some(bytes) if !stale => bytes.clone(),
            _ => {
                let json = serde_json::to_vec(&openapi::merged(&self.models)).unwrap_or_default();
                document.insert(Bytes::from(json)).clone()
            }
        }
    }
}

/// Runs `task`, again whenever it panics.
async fn restarted<T: Future<Output = ()>>(name: &'static str, task: impl Fn() -> T) {
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        tracing::error!(event = "background_task_panicked", task = name);
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_background_task_that_panics_is_started_again() {
        let runs = std::sync::atomic::AtomicU32::new(0);
        let task = || async { assert!(runs.fetch_add(1, Ordering::Relaxed) >= 2, "a bug") };
        restarted("test", task).await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }
}
