use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::Identity;

/// Most tokens remembered.
const CAPACITY: usize = 1024;

type Fingerprint = [u8; 32];

/// Tokens whose signature was verified recently, by their SHA-256, so that a client with many requests costs
/// one signature check. The tokens themselves are not kept. An entry is valid until its token's `exp` or the
/// next change of keys.
#[derive(Default)]
pub(crate) struct TokenCache {
    entries: Mutex<HashMap<Fingerprint, Entry>>,
}

struct Entry {
    identity: Identity,
    /// First second at which the token is no longer valid, leeway included.
    dead_at: u64,
}

impl TokenCache {
    pub(crate) fn fingerprint(token: &str) -> Fingerprint {
        Sha256::digest(token.as_bytes()).into()
    }

    pub(crate) fn get(&self, token: &Fingerprint, now: u64) -> Option<Identity> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(token).filter(|entry| now < entry.dead_at).map(|entry| entry.identity.clone())
    }

    pub(crate) fn put(&self, token: Fingerprint, identity: Identity, dead_at: u64, now: u64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY {
            entries.retain(|_, entry| now < entry.dead_at);
        }
        if entries.len() >= CAPACITY {
            entries.clear();
        }
        entries.insert(token, Entry { identity, dead_at });
    }

    pub(crate) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use videosdgx_api::Principal;

    use super::*;
    use crate::Scope;

    #[test]
    fn an_entry_dies_with_its_token_and_the_cache_stays_small() {
        let cache = TokenCache::default();
        let identity = Identity::new(Principal::new("ada"), [Scope::Read]);
        let key = TokenCache::fingerprint("a.b.c");
        cache.put(key, identity.clone(), 100, 0);
        assert_eq!(cache.get(&key, 99), Some(identity.clone()));
        assert_eq!(cache.get(&key, 100), None);
        for number in 0..3 * CAPACITY {
            cache.put(TokenCache::fingerprint(&number.to_string()), identity.clone(), 1000, 0);
            assert!(cache.entries.lock().unwrap().len() <= CAPACITY);
        }
    }
}
