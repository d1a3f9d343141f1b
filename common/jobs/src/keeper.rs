//! Keeps a lease while the inference thread works.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{Claim, Queue, QueueError, Signal, wait};

/// Renews a claim's lease on a thread of its own until dropped, and raises the claim's [`crate::CancelSignal`] when the
/// owner cancels or the lease is lost.
#[derive(Debug)]
pub struct LeaseKeeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LeaseKeeper {
    /// Starts renewing `claim` every `every` (a third of the lease).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(queue: Arc<dyn Queue>, claim: &Claim, every: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let lease = claim.lease.clone();
        let cancel = claim.cancel.clone();
        let thread = std::thread::Builder::new().name("lease-keeper".to_owned()).spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                match wait(queue.renew(&lease)) {
                    Ok(signal) => cancel.raise(signal),
                    Err(QueueError::Stale { .. } | QueueError::NotFound) => {
                        cancel.raise(Signal::Lost);
                        return;
                    }
                    Err(QueueError::Closed) => return,
                    Err(error) => {
                        tracing::warn!(job_id = %lease.job, attempt = lease.attempt, %error, "lease_not_renewed");
                    }
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("lease_keeper_panicked");
        }
    }
}
