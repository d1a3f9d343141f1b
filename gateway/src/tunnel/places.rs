use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use videosdgx_api::Code;

use crate::failure::Failure;

/// Places for open WebSockets: so many in all, so many of one principal.
pub(crate) struct SocketPlaces {
    max: usize,
    max_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_principal: HashMap<Arc<str>, usize>,
}

/// One open WebSocket; dropping it gives the place back.
pub(crate) struct SocketPlace {
    places: Arc<SocketPlaces>,
    principal: Arc<str>,
}

impl SocketPlaces {
    pub(crate) fn new(max: usize, max_of_one: usize) -> Arc<Self> {
        Arc::new(Self { max, max_of_one, taken: Mutex::default() })
    }

    /// A place for `principal`; with none left it says so at once.
    pub(crate) fn take(self: &Arc<Self>, principal: Arc<str>) -> Result<SocketPlace, Failure> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.max {
            return Err(Failure::later(Code::Overloaded, "too many WebSockets are open, try again", 1));
        }
        let mine = taken.by_principal.entry(Arc::clone(&principal)).or_insert(0);
        if *mine >= self.max_of_one {
            let detail = "you have too many WebSockets open, close one";
            return Err(Failure::later(Code::RateLimited, detail, 1)
                .map(|problem| problem.limit = Some(self.max_of_one.into())));
        }
        *mine += 1;
        taken.all += 1;
        Ok(SocketPlace { places: Arc::clone(self), principal })
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(mine) = taken.by_principal.get_mut(&self.principal) {
            *mine -= 1;
            if *mine == 0 {
                taken.by_principal.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_for_each_principal() {
        let places = SocketPlaces::new(3, 2);
        let (ada, bob): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
        let first = places.take(Arc::clone(&ada)).ok().unwrap();
        let _second = places.take(Arc::clone(&ada)).ok().unwrap();
        assert_eq!(places.take(Arc::clone(&ada)).err().unwrap().problem().status, 429);
        let third = places.take(Arc::clone(&bob)).ok().unwrap();
        assert_eq!(places.take(Arc::clone(&bob)).err().unwrap().problem().status, 503);
        drop(first);
        assert!(places.take(ada).is_ok());
        drop(third);
        assert_eq!((places.open(), places.taken.lock().unwrap().by_principal.len()), (1, 1));
    }
}
