//! Names become addresses here and nowhere else, and only public ones get through.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses of a name, or what the system says instead.
pub(super) type Lookup = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>>;

/// Where addresses come from and which of them may be connected to.
#[derive(Clone)]
pub(super) struct Rules {
    /// The system's resolver; tests have their own.
    pub(super) lookup: Arc<dyn Fn(String) -> Lookup + Send + Sync>,
    /// [`super::is_public`]; tests take one more for public.
    pub(super) allowed: fn(IpAddr) -> bool,
    /// `http:` too, for tests.
    pub(super) plain: bool,
}

impl Rules {
    pub(super) fn system() -> Self {
        Self {
            lookup: Arc::new(|name| {
                Box::pin(async move {
                    let found = tokio::net::lookup_host((name, 0)).await?;
                    Ok(found.map(|address| address.ip()).collect())
                })
            }),
            allowed: super::is_public,
            plain: false,
        }
    }
}

/// The client's resolver: it connects to what comes from here.
pub(super) struct CheckedResolver(pub(super) Rules);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Rules { lookup, allowed, .. } = self.0.clone();
        Box::pin(async move {
            let addresses = lookup(name.as_str().to_owned()).await?;
            // One address inside is enough: whoever answers so means no good.
            if addresses.is_empty() || !addresses.iter().all(|address| allowed(*address)) {
                return Err(Box::from(NotPublic));
            }
            let sockets: Vec<SocketAddr> =
                addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(sockets.into_iter()) as Addrs)
        })
    }
}

/// Found again in the chain of causes of the client's error.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("not a public address")]
pub(super) struct NotPublic;
