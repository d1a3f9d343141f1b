//! Turns for tokenizing long texts, which takes seconds of a processor.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use videosdgx_api::Principal;

/// Texts up to this many bytes are tokenized without a turn.
const LONG: usize = 128 * 1024;
/// Long texts that are tokenized at once; other work on the threads for blocking work goes on beside them.
const AT_ONCE: usize = 2;

static TURNS: LazyLock<Turns> = LazyLock::new(|| Turns::new(AT_ONCE));

/// Turns in total, and one for each principal: whoever sends many long texts waits for their own.
struct Turns {
    all: Arc<Semaphore>,
    by_principal: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
}

/// Permission to tokenize one long text.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Waits for the turn of a text of `bytes` bytes; a short one needs none.
pub(crate) async fn turn(principal: &Principal, bytes: usize) -> Option<Turn> {
    if bytes <= LONG { None } else { TURNS.take(principal).await }
}

impl Turns {
    fn new(at_once: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once)), by_principal: Mutex::default() }
    }

    async fn take(&self, principal: &Principal) -> Option<Turn> {
        let own = {
            let mut known = self.by_principal.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits for or holds the turn of a principal to which only this map refers.
            known.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(known.entry(principal.shared()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        // The semaphores are never closed, so neither fails.
        let own = own.acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _own: own, _all: all })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn each_principal_has_one_turn_and_all_have_two() {
        let turns = Turns::new(2);
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(Principal::new);
        let first = turns.take(&ada).await.unwrap();
        let mut second = Box::pin(turns.take(&ada));
        assert!((&mut second).now_or_never().is_none(), "one for each principal");
        let third = turns.take(&bob).now_or_never().unwrap();
        let mut fourth = Box::pin(turns.take(&eve));
        assert!((&mut fourth).now_or_never().is_none(), "two in all");
        drop(first);
        // Eve has waited for a turn of all, Ada only for her own.
        let fourth = fourth.await.unwrap();
        assert!((&mut second).now_or_never().is_none());
        drop((third, fourth));
        drop(second.await.unwrap());
        drop(turns.take(&eve).await);
        assert_eq!(turns.by_principal.lock().unwrap().len(), 1);
    }
}
