use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::Upstream;

/// Most jobs remembered.
const CAPACITY: usize = 16_384;

/// Which service has which job, for models with several services. Only a hint: a job that is not here is asked for
/// at each of them.
#[derive(Default)]
pub(crate) struct JobPlaces {
    inner: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    by_job: HashMap<String, Arc<Upstream>>,
    oldest_first: VecDeque<String>,
}

impl JobPlaces {
    pub(crate) fn get(&self, job: &str) -> Option<Arc<Upstream>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).by_job.get(job).cloned()
    }

    pub(crate) fn put(&self, job: &str, upstream: &Arc<Upstream>) {
        let mut places = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if places.by_job.insert(job.to_owned(), Arc::clone(upstream)).is_none() {
            places.oldest_first.push_back(job.to_owned());
            if places.oldest_first.len() > CAPACITY
                && let Some(oldest) = places.oldest_first.pop_front()
            {
                places.by_job.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let upstream = Arc::new(Upstream::new("m", &"http://h:1".parse().unwrap()));
        let places = JobPlaces::default();
        for number in 0..=CAPACITY {
            places.put(&format!("m-{number}"), &upstream);
            places.put(&format!("m-{number}"), &upstream);
        }
        assert!(places.get("m-0").is_none() && places.get("m-1").is_some());
        let inner = places.inner.lock().unwrap();
        assert_eq!((inner.by_job.len(), inner.oldest_first.len()), (CAPACITY, CAPACITY));
    }
}
