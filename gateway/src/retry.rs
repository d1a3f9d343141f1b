//! Sends a request to one service after another until one of them is reached.

use std::sync::Arc;

use crate::failure::Failure;
use crate::upstream::{Model, Upstream, UpstreamSlot};
use crate::upstream_client::unavailable;

/// Where a request goes.
#[derive(Clone, Copy)]
pub(crate) enum Destination<'a> {
    /// The least busy service of a model.
    Any(&'a Model),
    /// One service: it has the job.
    Only(&'a Arc<Upstream>),
}

impl Destination<'_> {
    /// A slot at a service that is not among `tried`.
    fn acquire(self, tried: &[Arc<Upstream>]) -> Option<UpstreamSlot> {
        match self {
            Destination::Any(model) => model.acquire(tried),
            Destination::Only(upstream) if tried.is_empty() => upstream.acquire(),
            Destination::Only(_) => None,
        }
    }
}

/// Why an attempt has no response.
pub(crate) enum AttemptError {
    /// Nothing of the request reached this service: it may be sent to another one.
    NotReached(Arc<Upstream>, Failure),
    /// The request may have had an effect: it is not sent again.
    Final(Failure),
}

/// A request that can be sent to one service after another.
pub(crate) trait Attempt {
    /// The result of a successful attempt.
    type Response;

    /// Sends the request to the service of `slot`.
    fn send(
        &mut self,
        slot: UpstreamSlot,
    ) -> impl Future<Output = Result<Self::Response, AttemptError>> + Send;
}

/// Sends a request to one service after another until one of them is reached. Fails with the failure of the last
/// attempt, or with `upstream_unavailable` when no service could be tried.
pub(crate) async fn until_reached<A: Attempt>(
    destination: Destination<'_>,
    mut request: A,
) -> Result<A::Response, Failure> {
    let mut tried = Vec::new();
    let mut failure = None;
    while let Some(slot) = destination.acquire(&tried) {
        match request.send(slot).await {
            Ok(response) => return Ok(response),
            Err(AttemptError::NotReached(upstream, reason)) => {
                tried.push(upstream);
                failure = Some(reason);
            }
            Err(AttemptError::Final(reason)) => return Err(reason),
        }
    }
    Err(failure.unwrap_or_else(unavailable))
}
