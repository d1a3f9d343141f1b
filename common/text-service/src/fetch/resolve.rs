//! Resolves host names for the fetcher; only public addresses are accepted.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The addresses of a host name.
pub(super) type Lookup = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>>;

/// How host names are resolved, and which addresses may be connected to.
#[derive(Clone)]
pub(super) struct AddressRules {
    /// The system's resolver; tests replace it.
    pub(super) lookup: Arc<dyn Fn(String) -> Lookup + Send + Sync>,
    /// [`super::is_public`]; tests also allow a loopback address.
    pub(super) allowed: fn(IpAddr) -> bool,
    /// Also allow `http:`; only set by tests.
    pub(super) allow_http: bool,
}

impl AddressRules {
    pub(super) fn system() -> Self {
        Self {
            lookup: Arc::new(|name| {
                Box::pin(async move {
                    let found = tokio::net::lookup_host((name, 0)).await?;
                    Ok(found.map(|address| address.ip()).collect())
                })
            }),
            allowed: super::is_public,
            allow_http: false,
        }
    }
}

/// The HTTP client's resolver: the client connects only to addresses that it returns.
pub(super) struct CheckedResolver(pub(super) AddressRules);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let AddressRules { lookup, allowed, .. } = self.0.clone();
        Box::pin(async move {
            let addresses = lookup(name.as_str().to_owned()).await?;
            // One address that is not public is enough to refuse the host.
            if addresses.is_empty() || !addresses.iter().all(|address| allowed(*address)) {
                return Err(Box::from(NotPublic));
            }
            let sockets: Vec<SocketAddr> =
                addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(sockets.into_iter()) as Addrs)
        })
    }
}

/// Part of the HTTP client's error, where the fetcher looks for it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("not a public address")]
pub(super) struct NotPublic;
