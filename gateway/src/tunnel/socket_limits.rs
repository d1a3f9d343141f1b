//! Limits of open WebSockets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use videosdgx_api::Code;

use crate::failure::Failure;

/// Counts open WebSockets against a limit in total and a limit per principal.
pub(crate) struct SocketLimits {
    max: usize,
    max_per_principal: usize,
    open: Mutex<OpenSockets>,
}

#[derive(Default)]
struct OpenSockets {
    total: usize,
    by_principal: HashMap<Arc<str>, usize>,
}

/// Permission for one open WebSocket, returned when it is dropped.
pub(crate) struct SocketPermit {
    limits: Arc<SocketLimits>,
    principal: Arc<str>,
}

impl SocketLimits {
    pub(crate) fn new(max: usize, max_per_principal: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_principal, open: Mutex::default() })
    }

    /// Fails at once when a limit is reached: 503 in total, 429 per principal.
    pub(crate) fn acquire(self: &Arc<Self>, principal: Arc<str>) -> Result<SocketPermit, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.max {
            return Err(Failure::later(Code::Overloaded, "too many WebSockets are open, try again", 1));
        }
        let own = open.by_principal.entry(Arc::clone(&principal)).or_insert(0);
        if *own >= self.max_per_principal {
            let detail = "you have too many WebSockets open, close one";
            return Err(Failure::later(Code::RateLimited, detail, 1)
                .map(|problem| problem.limit = Some(self.max_per_principal.into())));
        }
        *own += 1;
        open.total += 1;
        Ok(SocketPermit { limits: Arc::clone(self), principal })
    }

    /// Number of open WebSockets.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(own) = open.by_principal.get_mut(&self.principal) {
            *own -= 1;
            if *own == 0 {
                open.by_principal.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_counted_in_total_and_per_principal() {
        let limits = SocketLimits::new(3, 2);
        let (ada, bob): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
        let first = limits.acquire(Arc::clone(&ada)).ok().unwrap();
        let _second = limits.acquire(Arc::clone(&ada)).ok().unwrap();
        assert_eq!(limits.acquire(Arc::clone(&ada)).err().unwrap().problem().status, 429);
        let third = limits.acquire(Arc::clone(&bob)).ok().unwrap();
        assert_eq!(limits.acquire(Arc::clone(&bob)).err().unwrap().problem().status, 503);
        drop(first);
        assert!(limits.acquire(ada).is_ok());
        drop(third);
        assert_eq!((limits.count(), limits.open.lock().unwrap().by_principal.len()), (1, 1));
    }
}
