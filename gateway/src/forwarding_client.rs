//! The client that forwards requests to services.
//!
//! It is hyper's own client, on which reqwest is built: a proxied request needs neither reqwest's parsing of URLs nor its redirects,
//! cookies and retries, which together take a quarter of the time of forwarding a small response.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::config::duration;
use crate::{GatewayConfig, GatewayError};

/// Idle connections that each client keeps to each service.
pub(crate) const IDLE_CONNECTIONS: usize = 128;
/// Shorter than the services' own idle timeout, so that a pooled connection is rarely closed while a request is sent.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(4);

/// Sends requests over HTTP/1.1, on connections of its own that it uses again.
pub(crate) type ForwardingClient = Client<HttpsConnector<HttpConnector>, Body>;

/// What the clients of all workers have in common.
pub(crate) struct ForwardingClients {
    tls: ClientConfig,
    connect_timeout: Duration,
}

impl ForwardingClients {
    /// Reads the system's root certificates if a service is at an `https` address.
    pub(crate) fn new(config: &GatewayConfig) -> Result<Self, GatewayError> {
        let needs_tls =
            config.models.iter().flat_map(|model| &model.upstreams).any(|url| url.scheme() == "https");
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(GatewayError::Tls)?;
        let tls = if needs_tls {
            tls.with_platform_verifier().map_err(GatewayError::Tls)?
        } else {
            tls.with_root_certificates(RootCertStore::empty())
        };
        let connect_timeout = duration(config.limits.connect_seconds);
        Ok(Self { tls: tls.with_no_client_auth(), connect_timeout })
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self) -> ForwardingClient {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(self.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector)
    }
}

/// Whether a connection could not be made in time.
pub(crate) fn is_timeout(error: &Error) -> bool {
    causes(error).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
            || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
    })
}

/// Whether the request's own body failed: the client broke off, was too slow or sent too much.
pub(crate) fn is_body_error(error: &Error) -> bool {
    causes(error).any(|cause| cause.is::<axum::Error>())
}

fn causes<'a>(error: &'a Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}
