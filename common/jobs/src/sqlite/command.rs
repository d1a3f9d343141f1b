//! Commands for the writing thread.

use std::time::Instant;

use futures::channel::oneshot;
use videosdgx_api::JobId;

use super::store::NewRequests;
use crate::{
    Claim, EventStream, Principal, QueueError,
    state::{Machine, Time},
};

pub(super) type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// What a step may read and change.
pub(super) struct Context<'a> {
    pub(super) machine: &'a mut Machine,
    pub(super) time: Time,
    pub(super) requests: &'a mut NewRequests,
    pub(super) waiting_workers: u64,
}

/// Called with the result of the transaction that contains the step.
pub(super) type AfterCommit = Box<dyn FnOnce(Result<(), QueueError>) + Send>;

/// Applies a change to the state machine; gets an error instead when there is no state machine.
pub(super) type Step = Box<dyn FnOnce(Result<Context<'_>, QueueError>) -> AfterCommit + Send>;

/// A worker that waits for a job.
pub(super) struct Waiter {
    pub(super) worker: String,
    pub(super) until: Instant,
    pub(super) reply: Reply<Option<Claim>>,
}

/// A request for the events of a job.
pub(super) struct Subscription {
    pub(super) principal: Principal,
    pub(super) id: JobId,
    pub(super) after: u64,
    pub(super) reply: Reply<EventStream>,
}

pub(super) enum Command {
    Step(Step),
    Claim(Waiter),
    Subscribe(Subscription),
    CloseClaims,
    Shutdown,
}

impl Command {
    /// A step whose answer is sent once it is durable.
    pub(super) fn step<T: Send + 'static>(
        reply: Reply<T>,
        step: impl FnOnce(Context<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> Self {
        Self::Step(Box::new(move |context| {
            let result = context.and_then(step);
            // A caller that dropped its answer does not need it.
            Box::new(move |committed| drop(reply.send(result.and_then(|value| committed.map(|()| value)))))
        }))
    }
}
