//! Jobs across several services: where one is, and all of them in one order.

use std::collections::VecDeque;
use std::sync::Arc;

use videosdgx_api::{Code, Job, JobId, JobList};

use crate::Gateway;
use crate::call::Caller;
use crate::failure::Failure;
use crate::upstream::{Model, Upstream};

/// Jobs asked for at a time.
const PAGE: usize = 100;
/// Most jobs of one service that a listing walks through.
const MAX_WALK: usize = 20_000;

/// A job and the service that has it.
pub(crate) struct Found {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) job: Job,
}

/// The service that has the job `id`: the remembered one, the only one, or the one that says so when asked.
pub(crate) async fn place(
    gateway: &Gateway,
    caller: &Caller,
    among: &[Arc<Upstream>],
    id: &JobId,
) -> Result<Arc<Upstream>, Failure> {
    if let [only] = among {
        return Ok(Arc::clone(only));
    }
    let remembered = gateway.places.get(id.as_str());
    if let Some(upstream) = remembered.filter(|upstream| among.iter().any(|one| Arc::ptr_eq(one, upstream))) {
        return Ok(upstream);
    }
    find(gateway, caller, among, id).await.map(|found| found.upstream)
}

/// The job `id`, as its owner sees it. Services whose model the id names are asked first.
pub(crate) async fn find(
    gateway: &Gateway,
    caller: &Caller,
    among: &[Arc<Upstream>],
    id: &JobId,
) -> Result<Found, Failure> {
    let remembered = gateway.places.get(id.as_str());
    let named = |upstream: &Upstream| {
        id.as_str().strip_prefix(upstream.model.as_str()).is_some_and(|rest| rest.starts_with('-'))
    };
    let mut order: Vec<&Arc<Upstream>> = among.iter().collect();
    order.sort_by_key(|upstream| {
        let known = remembered.as_ref().is_some_and(|place| Arc::ptr_eq(place, upstream));
        (!known, !named(upstream))
    });
    let nobody_named = !among.iter().any(|upstream| named(upstream));
    let mut failure = None;
    for upstream in order {
        match caller.get::<Job>(gateway, upstream, &format!("/jobs/{id}")).await {
            Ok(job) => {
                gateway.places.put(id.as_str(), upstream);
                return Ok(Found { upstream: Arc::clone(upstream), job });
            }
            Err(refused) if refused.problem().status == 404 => {}
            // Silence of a service that cannot have the job does not matter.
            Err(other) if named(upstream) || nobody_named => failure = Some(other),
            Err(_) => {}
        }
    }
    Err(failure.unwrap_or_else(Failure::job_not_found))
}

/// Every service of `models`.
pub(crate) fn upstreams<'a>(models: impl Iterator<Item = &'a Arc<Model>>) -> Vec<Arc<Upstream>> {
    models.flat_map(|model| model.upstreams.iter().cloned()).collect()
}

/// What to list.
pub(crate) struct Listing {
    pub(crate) after: Option<JobId>,
    pub(crate) limit: usize,
    pub(crate) oldest_first: bool,
    /// The services' own filter, passed on as it is.
    pub(crate) status: Option<String>,
}

/// One page of the caller's jobs at all of these services, and whether there are more. A service that does not answer
/// is left out, unless none does.
pub(crate) async fn list(
    gateway: &Gateway,
    caller: &Caller,
    among: &[Arc<Upstream>],
    listing: &Listing,
) -> Result<(Vec<Found>, bool), Failure> {
    let mut walks: Vec<Walk<'_>> =
        among.iter().map(|upstream| Walk::new(upstream, listing.status.clone())).collect();
    let mut failure = None;
    let mut all_failed = !walks.is_empty();
    for walk in &mut walks {
        match walk.fill(gateway, caller).await {
            Ok(()) => all_failed = false,
            Err(error) => failure = Some(error),
        }
    }
    if let (true, Some(failure)) = (all_failed, failure) {
        return Err(failure);
    }
    let mut skipping = listing.after.is_some() && !listing.oldest_first;
    let mut page: Vec<Found> = Vec::new();
    while let Some(newest) = newest_of(&walks) {
        let walk = &mut walks[newest];
        let Some(job) = walk.ahead.pop_front() else { break };
        if walk.ahead.is_empty() {
            // A service that fails half-way ends its part of the list.
            let _ = walk.fill(gateway, caller).await;
        }
        if skipping {
            skipping = listing.after.as_ref() != Some(&job.job_id);
            continue;
        }
        let upstream = Arc::clone(walk.upstream);
        page.push(Found { upstream, job });
        if !listing.oldest_first && page.len() > listing.limit {
            break;
        }
    }
    if listing.oldest_first {
        page.reverse();
        if let Some(after) = &listing.after {
            let at = page.iter().position(|found| found.job.job_id == *after);
            skipping = at.is_none();
            page = at.map(|at| page.split_off(at + 1)).unwrap_or_default();
        }
    }
    if skipping {
        return Err(Failure::field("after", "there is no such job to go on after"));
    }
    let more = page.len() > listing.limit;
    page.truncate(listing.limit);
    for found in &page {
        gateway.places.put(found.job.job_id.as_str(), &found.upstream);
    }
    Ok((page, more))
}

fn newest_of(walks: &[Walk<'_>]) -> Option<usize> {
    let heads = walks.iter().enumerate().filter_map(|(at, walk)| Some((walk.ahead.front()?.created_at, at)));
    heads.max_by_key(|(created_at, at)| (*created_at, std::cmp::Reverse(*at))).map(|(_, at)| at)
}

/// Walks through one service's list, newest first, page by page.
struct Walk<'a> {
    upstream: &'a Arc<Upstream>,
    status: Option<String>,
    ahead: VecDeque<Job>,
    cursor: Option<String>,
    seen: usize,
    over: bool,
}

impl<'a> Walk<'a> {
    fn new(upstream: &'a Arc<Upstream>, status: Option<String>) -> Self {
        Self { upstream, status, ahead: VecDeque::new(), cursor: None, seen: 0, over: false }
    }

    async fn fill(&mut self, gateway: &Gateway, caller: &Caller) -> Result<(), Failure> {
        if self.over {
            return Ok(());
        }
        let path = self.next_page();
        let page = caller.get::<JobList>(gateway, self.upstream, &path).await;
        self.over = true;
        let page = page?;
        self.seen += page.jobs.len();
        self.over = page.next_cursor.is_none() || page.jobs.is_empty() || self.seen >= MAX_WALK;
        self.cursor = page.next_cursor;
        self.ahead.extend(page.jobs);
        Ok(())
    }

    fn next_page(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::for_suffix(String::from("/jobs?"), "/jobs?".len());
        query.append_pair("limit", &PAGE.to_string());
        if let Some(status) = &self.status {
            query.append_pair("status", status);
        }
        if let Some(cursor) = &self.cursor {
            query.append_pair("cursor", cursor);
        }
        query.finish()
    }
}

/// `1 ≤ limit ≤ most`, 20 unless told.
pub(crate) fn check_limit(limit: Option<usize>, most: usize) -> Result<usize, Failure> {
    let limit = limit.unwrap_or(20);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    let failure = Failure::field("limit", format!("limit is 1 to {most}"));
    Err(failure.map(|problem| problem.limit = Some(most.into())))
}

/// A job id from a path; what cannot be one is simply not there.
pub(crate) fn parse_id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|_| Failure::new(Code::JobNotFound, "there is no such job"))
}
