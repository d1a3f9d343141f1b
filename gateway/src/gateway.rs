use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use videosdgx_auth::{HttpJwksFetcher, KeyFolder, Verifier};

use crate::config::duration;
use crate::layers::rate::{self, ByPeer, ByPrincipal};
use crate::metrics::Metrics;
use crate::tunnel::SocketPlaces;
use crate::upstream::{self, JobPlaces, Models};
use crate::{GatewayConfig, GatewayError, openapi};

/// How often rate limits forget who has been quiet.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Idle connections kept to each service.
const IDLE_CONNECTIONS: usize = 128;
/// Shorter than the services' own patience, so that a kept connection is rarely closed under a request.
const IDLE_SECONDS: u64 = 4;

/// What all handlers share.
pub(crate) struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) verifier: Verifier,
    pub(crate) models: Models,
    /// For everything that goes to a service: HTTP/1.1, no redirects, bodies as they are.
    pub(crate) client: reqwest::Client,
    pub(crate) metrics: Metrics,
    pub(crate) places: JobPlaces,
    pub(crate) in_flight: Arc<Semaphore>,
    /// KiB of request bodies that may be held at once, to be routed by what is in them.
    pub(crate) buffers: Arc<Semaphore>,
    /// Open WebSockets, by who opened them.
    pub(crate) sockets: Arc<SocketPlaces>,
    /// The tasks that carry them.
    pub(crate) tunnels: TaskTracker,
    pub(crate) peer_rate: Arc<rate::Config<ByPeer>>,
    pub(crate) principal_rate: Arc<rate::Config<ByPrincipal>>,
    pub(crate) started: Timestamp,
    draining: CancellationToken,
    stopped: CancellationToken,
    /// The merged document, until a service's changes.
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
            .pool_idle_timeout(Duration::from_secs(IDLE_SECONDS))
            .build()?;
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
            metrics: Metrics::new(),
            places: JobPlaces::default(),
            in_flight: Arc::new(Semaphore::new(limits.max_in_flight)),
            buffers: Arc::new(Semaphore::new(limits.buffered_kib())),
            sockets: SocketPlaces::new(limits.max_sockets, limits.max_sockets_per_principal),
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

    /// Begins to look at the services and to forget quiet clients, until [`Gateway::stop_watching`].
    pub(crate) fn watch(self: &Arc<Self>) {
        let interval = duration(self.config.limits.health_seconds);
        for model in self.models.iter() {
            for upstream in &model.upstreams {
                let gateway = Arc::clone(self);
                let on_document = move || gateway.document_stale.store(true, Ordering::Release);
                let (client, model, upstream) =
                    (self.client.clone(), Arc::clone(model), Arc::clone(upstream));
                self.spawn(upstream::watch(client, model, upstream, interval, on_document));
            }
        }
        self.spawn(rate::forget_idle(Arc::clone(&self.peer_rate), FORGET_EVERY));
        self.spawn(rate::forget_idle(Arc::clone(&self.principal_rate), FORGET_EVERY));
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(task).await });
    }

    pub(crate) fn stop_watching(&self) {
        self.stopped.cancel();
    }

    /// From now on nothing new is taken.
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

    /// The OpenAPI document of everything, as JSON.
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
