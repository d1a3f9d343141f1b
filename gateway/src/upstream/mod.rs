//! The services behind the gateway: which models there are, which service is least busy, which ones are healthy.

mod breaker;
mod health;
mod job_locations;
mod service_state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use axum::body::Bytes;
pub(crate) use breaker::{Breaker, BreakerState, Outcome};
pub(crate) use health::watch;
use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
pub(crate) use job_locations::JobLocations;
use serde_json::Value;
pub(crate) use service_state::ServiceState;
use videosdgx_api::openai::ModelKind;

use crate::config::ModelConfig;

/// One process of a service.
pub(crate) struct Upstream {
    /// Name of the model that it serves.
    pub(crate) model: String,
    /// Base URL without a trailing slash.
    base: String,
    parsed: url::Url,
    scheme: Scheme,
    /// `None` if the URL cannot be used as an address.
    authority: Option<Authority>,
    in_flight: AtomicUsize,
    breaker: Mutex<Breaker>,
    /// Result of the last health check.
    checked: RwLock<ServiceState>,
}

impl Upstream {
    fn new(model: &str, url: &url::Url) -> Self {
        Self {
            model: model.to_owned(),
            base: url.as_str().trim_end_matches('/').to_owned(),
            parsed: url.clone(),
            scheme: if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP },
            authority: url.authority().parse().ok(),
            in_flight: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::new()),
            checked: RwLock::default(),
        }
    }

    /// Its base URL, for labels and documents.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The address of `path_and_query`, which begins with a slash.
    pub(crate) fn url(&self, path_and_query: &str) -> url::Url {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let mut url = self.parsed.clone();
        match self.parsed.path().trim_end_matches('/') {
            "" => url.set_path(path),
            prefix => url.set_path(&format!("{prefix}{path}")),
        }
        url.set_query(query);
        url
    }

    /// The address of `path_and_query` for a request that is forwarded. The path must not need percent-encoding.
    pub(crate) fn uri(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        let prefix = self.parsed.path().trim_end_matches('/');
        let target = if prefix.is_empty() {
            Bytes::copy_from_slice(path_and_query.as_bytes())
        } else {
            Bytes::from([prefix, path_and_query].concat())
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority.clone_from(&self.authority);
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(target)?);
        Ok(Uri::from_parts(parts)?)
    }

    /// Its state: the last health check, the breaker, the number of requests.
    pub(crate) fn state(&self) -> ServiceState {
        let checked = self.checked.read().unwrap_or_else(PoisonError::into_inner).clone();
        let breaker = self.breaker_state().as_str().to_owned();
        ServiceState { breaker, in_flight: self.in_flight.load(Ordering::Relaxed), ..checked }
    }

    pub(crate) fn breaker_state(&self) -> BreakerState {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).state(Instant::now())
    }

    /// Whether the last health check succeeded.
    fn is_up(&self) -> bool {
        self.checked.read().unwrap_or_else(PoisonError::into_inner).up == Some(true)
    }

    /// Whether it is up or its state is not known yet.
    pub(crate) fn may_be_up(&self) -> bool {
        self.checked.read().unwrap_or_else(PoisonError::into_inner).up != Some(false)
    }

    /// A slot for one request, or `None` while the breaker is open.
    pub(crate) fn acquire(self: &Arc<Self>) -> Option<UpstreamSlot> {
        let admitted = self.breaker.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        admitted.then(|| {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            UpstreamSlot { upstream: Arc::clone(self), reported: false }
        })
    }
}

/// One request that counts as in flight at a service until this is dropped. Reports its outcome to the breaker once.
pub(crate) struct UpstreamSlot {
    pub(crate) upstream: Arc<Upstream>,
    reported: bool,
}

impl UpstreamSlot {
    /// Reports the outcome to the breaker. Only the first report counts.
    pub(crate) fn report(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.reported, true) {
            let mut breaker = self.upstream.breaker.lock().unwrap_or_else(PoisonError::into_inner);
            breaker.record(Instant::now(), outcome);
        }
    }
}

impl Drop for UpstreamSlot {
    fn drop(&mut self) {
        self.report(Outcome::Unknown);
        self.upstream.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One model and its services.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// Start of the next round-robin choice among equally busy services.
    turn: AtomicUsize,
    /// The latest OpenAPI document of its services.
    document: RwLock<Option<Arc<Value>>>,
}

impl Model {
    /// A slot at the least busy service that may be up and whose breaker admits a request, except those in `tried`.
    /// Services that seem to be down come last: the last health check may be outdated.
    pub(crate) fn acquire(&self, tried: &[Arc<Upstream>]) -> Option<UpstreamSlot> {
        if let [only] = self.upstreams.as_slice() {
            return if tried.is_empty() { only.acquire() } else { None };
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.upstreams.len();
        let mut order: Vec<&Arc<Upstream>> = (0..count)
            .map(|at| &self.upstreams[(turn + at) % count])
            .filter(|upstream| !tried.iter().any(|other| Arc::ptr_eq(other, upstream)))
            .collect();
        order.sort_by_key(|upstream| (!upstream.may_be_up(), upstream.in_flight.load(Ordering::Relaxed)));
        order.into_iter().find_map(Upstream::acquire)
    }

    /// Whether the last health check of one of its services succeeded.
    pub(crate) fn is_available(&self) -> bool {
        self.upstreams.iter().any(|upstream| upstream.is_up())
    }

    /// Name of the checkpoint, as reported by its services.
    pub(crate) fn checkpoint(&self) -> Option<String> {
        self.upstreams.iter().find_map(|upstream| upstream.state().checkpoint)
    }

    /// What it generates, as reported by its services; `None` before the first report.
    pub(crate) fn kind(&self) -> Option<ModelKind> {
        self.upstreams.iter().find_map(|upstream| upstream.state().kind)
    }

    /// The OpenAPI document of its services, once one of them has been read.
    pub(crate) fn document(&self) -> Option<Arc<Value>> {
        self.document.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores a document; returns whether it differs from the previous one.
    pub(crate) fn set_document(&self, document: Value) -> bool {
        let mut slot = self.document.write().unwrap_or_else(PoisonError::into_inner);
        let changed = slot.as_deref() != Some(&document);
        if changed {
            *slot = Some(Arc::new(document));
        }
        changed
    }
}

/// All models, in the order of the configuration.
pub(crate) struct Models {
    order: Vec<Arc<Model>>,
    by_name: BTreeMap<String, Arc<Model>>,
}

impl Models {
    pub(crate) fn new(configs: &[ModelConfig]) -> Self {
        let order: Vec<Arc<Model>> = configs
            .iter()
            .map(|config| {
                Arc::new(Model {
                    name: config.name.clone(),
                    upstreams: config
                        .upstreams
                        .iter()
                        .map(|url| Arc::new(Upstream::new(&config.name, url)))
                        .collect(),
                    turn: AtomicUsize::new(0),
                    document: RwLock::default(),
                })
            })
            .collect();
        let by_name = order.iter().map(|model| (model.name.clone(), Arc::clone(model))).collect();
        Self { order, by_name }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Model>> {
        self.by_name.get(name)
    }

    /// The models of this kind, and those whose kind is not known yet.
    pub(crate) fn of_kind(&self, kind: ModelKind) -> impl Iterator<Item = &Arc<Model>> {
        self.iter().filter(move |model| model.kind().is_none_or(|known| known == kind))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.order.iter()
    }

    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.order.iter().flat_map(|model| &model.upstreams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(count: usize) -> Arc<Model> {
        let upstreams = (0..count).map(|n| format!("http://h{n}:1").parse().unwrap()).collect();
        let config = ModelConfig { name: "m".into(), upstreams };
        Arc::clone(Models::new(&[config]).get("m").unwrap())
    }

    #[test]
    fn the_least_busy_is_chosen_and_equals_alternate() {
        let model = model(3);
        let slots: Vec<UpstreamSlot> = (0..9).map(|_| model.acquire(&[]).unwrap()).collect();
        assert!(model.upstreams.iter().all(|upstream| upstream.state().in_flight == 3));
        let kept = slots.into_iter().filter(|slot| slot.upstream.base() != "http://h1:1").collect::<Vec<_>>();
        assert_eq!(model.acquire(&[]).unwrap().upstream.base(), "http://h1:1");
        drop(kept);
        assert!(model.upstreams.iter().all(|upstream| upstream.state().in_flight == 0));
    }

    #[test]
    fn services_that_are_down_come_last_and_tried_ones_are_skipped() {
        let model = model(2);
        model.upstreams[0].checked.write().unwrap().up = Some(false);
        for _ in 0..4 {
            let slot = model.acquire(&[]).unwrap();
            assert_eq!(slot.upstream.base(), "http://h1:1");
        }
        let first = model.acquire(&[]).unwrap();
        let second = model.acquire(&[Arc::clone(&first.upstream)]).unwrap();
        assert_eq!(second.upstream.base(), "http://h0:1");
        assert!(model.acquire(&[Arc::clone(&first.upstream), Arc::clone(&second.upstream)]).is_none());
    }

    #[test]
    fn an_open_breaker_refuses_requests() {
        let model = model(1);
        for _ in 0..5 {
            model.acquire(&[]).unwrap().report(Outcome::Failure);
        }
        assert!(model.acquire(&[]).is_none());
        assert_eq!(model.upstreams[0].state().breaker, "open");
    }
}
