//! The services behind the gateway: which model is where, who is least busy, who is well.

mod breaker;
mod health;
mod job_places;
mod service_state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

pub(crate) use breaker::{Breaker, BreakerState, Outcome};
pub(crate) use health::watch;
pub(crate) use job_places::JobPlaces;
use serde_json::Value;
pub(crate) use service_state::ServiceState;
use videosdgx_api::openai::ModelKind;

use crate::config::ModelConfig;

/// One service process.
pub(crate) struct Upstream {
    pub(crate) model: String,
    /// Base URL without a trailing slash.
    base: String,
    parsed: url::Url,
    in_flight: AtomicUsize,
    breaker: Mutex<Breaker>,
    looked: RwLock<ServiceState>,
}

impl Upstream {
    fn new(model: &str, url: &url::Url) -> Self {
        Self {
            model: model.to_owned(),
            base: url.as_str().trim_end_matches('/').to_owned(),
            parsed: url.clone(),
            in_flight: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::new()),
            looked: RwLock::default(),
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

    /// What is known of it now.
    pub(crate) fn state(&self) -> ServiceState {
        let looked = self.looked.read().unwrap_or_else(PoisonError::into_inner).clone();
        let breaker = self.breaker_state().as_str().to_owned();
        ServiceState { breaker, in_flight: self.in_flight.load(Ordering::Relaxed), ..looked }
    }

    pub(crate) fn breaker_state(&self) -> BreakerState {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).state(Instant::now())
    }

    /// The last look found it well.
    fn is_up(&self) -> bool {
        self.looked.read().unwrap_or_else(PoisonError::into_inner).up == Some(true)
    }

    /// Not known to be down.
    pub(crate) fn may_be_up(&self) -> bool {
        self.looked.read().unwrap_or_else(PoisonError::into_inner).up != Some(false)
    }

    /// A place for one request, when the breaker lets it through.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let admitted = self.breaker.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        admitted.then(|| {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            Lease { upstream: Arc::clone(self), reported: false }
        })
    }
}

/// A request under way to a service. Dropping it ends the request; the breaker is told once.
pub(crate) struct Lease {
    pub(crate) upstream: Arc<Upstream>,
    reported: bool,
}

impl Lease {
    /// Tells the breaker how it went. Only the first report counts.
    pub(crate) fn report(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.reported, true) {
            let mut breaker = self.upstream.breaker.lock().unwrap_or_else(PoisonError::into_inner);
            breaker.record(Instant::now(), outcome);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.report(Outcome::Unknown);
        self.upstream.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One model and its services.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// Where the next equal choice begins.
    turn: AtomicUsize,
    /// The newest OpenAPI document of its services.
    document: RwLock<Option<Arc<Value>>>,
}

impl Model {
    /// The least busy service that may be up and whose breaker lets a request through, leaving out `tried`. When all
    /// seem to be down they are tried all the same: the last look may be old.
    pub(crate) fn lease(&self, tried: &[Arc<Upstream>]) -> Option<Lease> {
        if let [only] = self.upstreams.as_slice() {
            return if tried.is_empty() { only.lease() } else { None };
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.upstreams.len();
        let mut order: Vec<&Arc<Upstream>> = (0..count)
            .map(|at| &self.upstreams[(turn + at) % count])
            .filter(|upstream| !tried.iter().any(|other| Arc::ptr_eq(other, upstream)))
            .collect();
        order.sort_by_key(|upstream| (!upstream.may_be_up(), upstream.in_flight.load(Ordering::Relaxed)));
        order.into_iter().find_map(Upstream::lease)
    }

    /// Whether one of its services was well when it was last looked at.
    pub(crate) fn is_available(&self) -> bool {
        self.upstreams.iter().any(|upstream| upstream.is_up())
    }

    pub(crate) fn checkpoint(&self) -> Option<String> {
        self.upstreams.iter().find_map(|upstream| upstream.state().checkpoint)
    }

    /// What it makes, as its services last said.
    pub(crate) fn kind(&self) -> Option<ModelKind> {
        self.upstreams.iter().find_map(|upstream| upstream.state().kind)
    }

    pub(crate) fn document(&self) -> Option<Arc<Value>> {
        self.document.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this changed it.
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

    /// All that make `kind`, or have not said yet what they make.
    pub(crate) fn making(&self, kind: ModelKind) -> impl Iterator<Item = &Arc<Model>> {
        self.iter().filter(move |model| model.kind().is_none_or(|made| made == kind))
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
    fn the_least_busy_is_taken_and_equals_take_turns() {
        let model = model(3);
        let leases: Vec<Lease> = (0..9).map(|_| model.lease(&[]).unwrap()).collect();
        assert!(model.upstreams.iter().all(|upstream| upstream.state().in_flight == 3));
        let kept =
            leases.into_iter().filter(|lease| lease.upstream.base() != "http://h1:1").collect::<Vec<_>>();
        assert_eq!(model.lease(&[]).unwrap().upstream.base(), "http://h1:1");
        drop(kept);
        assert!(model.upstreams.iter().all(|upstream| upstream.state().in_flight == 0));
    }

    #[test]
    fn who_is_down_comes_last_and_who_was_tried_not_again() {
        let model = model(2);
        model.upstreams[0].looked.write().unwrap().up = Some(false);
        for _ in 0..4 {
            let lease = model.lease(&[]).unwrap();
            assert_eq!(lease.upstream.base(), "http://h1:1");
        }
        let first = model.lease(&[]).unwrap();
        let second = model.lease(&[Arc::clone(&first.upstream)]).unwrap();
        assert_eq!(second.upstream.base(), "http://h0:1");
        assert!(model.lease(&[Arc::clone(&first.upstream), Arc::clone(&second.upstream)]).is_none());
    }

    #[test]
    fn an_open_breaker_keeps_requests_away() {
        let model = model(1);
        for _ in 0..5 {
            model.lease(&[]).unwrap().report(Outcome::Failure);
        }
        assert!(model.lease(&[]).is_none());
        assert_eq!(model.upstreams[0].state().breaker, "open");
    }
}
