//! Which service has which job.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::Upstream;

/// Maximum number of jobs that are remembered.
const CAPACITY: usize = 16_384;

/// Which service has which job, for models with several services. A cache: the service of a job that is not in it is
/// found by asking each of them.
#[derive(Default)]
pub(crate) struct JobLocations {
    inner: Mutex<Locations>,
}

#[derive(Default)]
struct Locations {
    by_job: HashMap<String, Arc<Upstream>>,
    oldest_first: VecDeque<String>,
}

impl JobLocations {
    pub(crate) fn get(&self, job: &str) -> Option<Arc<Upstream>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).by_job.get(job).cloned()
    }

    pub(crate) fn put(&self, job: &str, upstream: &Arc<Upstream>) {
        let mut locations = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if locations.by_job.insert(job.to_owned(), Arc::clone(upstream)).is_none() {
            locations.oldest_first.push_back(job.to_owned());
            if locations.oldest_first.len() > CAPACITY
                && let Some(oldest) = locations.oldest_first.pop_front()
            {
                locations.by_job.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_evicted() {
        let upstream = Arc::new(Upstream::new("m", &"http://h:1".parse().unwrap()));
        let locations = JobLocations::default();
        for number in 0..=CAPACITY {
            locations.put(&format!("m-{number}"), &upstream);
            locations.put(&format!("m-{number}"), &upstream);
        }
        assert!(locations.get("m-0").is_none() && locations.get("m-1").is_some());
        let inner = locations.inner.lock().unwrap();
        assert_eq!((inner.by_job.len(), inner.oldest_first.len()), (CAPACITY, CAPACITY));
    }
}
