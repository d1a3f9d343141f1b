//! Jobs of several services: finding one of them, and listing all of them by time.

use std::collections::VecDeque;
use std::sync::Arc;

use videosdgx_api::{Code, Job, JobId, JobList};

use crate::Gateway;
use crate::failure::Failure;
use crate::upstream::{Model, Upstream};
use crate::upstream_client::UpstreamClient;

/// Jobs per page that is requested from a service.
const PAGE: usize = 100;
/// Maximum number of jobs that a listing reads from one service.
const MAX_JOBS: usize = 20_000;

/// A job and the service that has it.
pub(crate) struct LocatedJob {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) job: Job,
}

/// The service that has the job `id`: the only one, the remembered one, or the one that has it when asked.
pub(crate) async fn locate(
    gateway: &Gateway,
    client: &UpstreamClient,
    upstreams: &[Arc<Upstream>],
    id: &JobId,
) -> Result<Arc<Upstream>, Failure> {
    if let [only] = upstreams {
        return Ok(Arc::clone(only));
    }
    let remembered = gateway.job_locations.get(id.as_str());
    if let Some(upstream) =
        remembered.filter(|upstream| upstreams.iter().any(|one| Arc::ptr_eq(one, upstream)))
    {
        return Ok(upstream);
    }
    find(gateway, client, upstreams, id).await.map(|found| found.upstream)
}

/// The job `id` if the caller owns it. Services whose model name is the prefix of the id are asked first.
pub(crate) async fn find(
    gateway: &Gateway,
    client: &UpstreamClient,
    upstreams: &[Arc<Upstream>],
    id: &JobId,
) -> Result<LocatedJob, Failure> {
    let remembered = gateway.job_locations.get(id.as_str());
    let named = |upstream: &Upstream| {
        id.as_str().strip_prefix(upstream.model.as_str()).is_some_and(|rest| rest.starts_with('-'))
    };
    let mut order: Vec<&Arc<Upstream>> = upstreams.iter().collect();
    order.sort_by_key(|upstream| {
        let known = remembered.as_ref().is_some_and(|known| Arc::ptr_eq(known, upstream));
        (!known, !named(upstream))
    });
    let none_named = !upstreams.iter().any(|upstream| named(upstream));
    let mut failure = None;
    for upstream in order {
        match client.get::<Job>(gateway, upstream, &format!("/jobs/{id}")).await {
            Ok(job) => {
                gateway.job_locations.put(id.as_str(), upstream);
                return Ok(LocatedJob { upstream: Arc::clone(upstream), job });
            }
            Err(refused) if refused.problem().status == 404 => {}
            // A failure of a service that cannot have the job does not matter.
            Err(other) if named(upstream) || none_named => failure = Some(other),
            Err(_) => {}
        }
    }
    Err(failure.unwrap_or_else(Failure::job_not_found))
}

/// Every service of `models`.
pub(crate) fn upstreams<'a>(models: impl Iterator<Item = &'a Arc<Model>>) -> Vec<Arc<Upstream>> {
    models.flat_map(|model| model.upstreams.iter().cloned()).collect()
}

/// Which jobs to list.
pub(crate) struct ListOptions {
    /// The list begins after this job.
    pub(crate) after: Option<JobId>,
    /// Maximum number of jobs on the page.
    pub(crate) limit: usize,
    pub(crate) oldest_first: bool,
    /// Value of the services' `status` parameter, passed on unchanged.
    pub(crate) status: Option<String>,
}

/// One page of the caller's jobs at all of these services, and whether there are more. A service that does not answer
/// is skipped, unless none answers.
pub(crate) async fn list(
    gateway: &Gateway,
    client: &UpstreamClient,
    upstreams: &[Arc<Upstream>],
    options: &ListOptions,
) -> Result<(Vec<LocatedJob>, bool), Failure> {
    let mut lists: Vec<JobPages<'_>> =
        upstreams.iter().map(|upstream| JobPages::new(upstream, options.status.clone())).collect();
    let mut failure = None;
    let mut all_failed = !lists.is_empty();
    for list in &mut lists {
        match list.fill(gateway, client).await {
            Ok(()) => all_failed = false,
            Err(error) => failure = Some(error),
        }
    }
    if let (true, Some(failure)) = (all_failed, failure) {
        return Err(failure);
    }
    let mut skipping = options.after.is_some() && !options.oldest_first;
    let mut page: Vec<LocatedJob> = Vec::new();
    while let Some(newest) = newest_of(&lists) {
        let list = &mut lists[newest];
        let Some(job) = list.ahead.pop_front() else { break };
        if list.ahead.is_empty() {
            // A service that fails now contributes what it has already listed.
            let _ = list.fill(gateway, client).await;
        }
        if skipping {
            skipping = options.after.as_ref() != Some(&job.job_id);
            continue;
        }
        let upstream = Arc::clone(list.upstream);
        page.push(LocatedJob { upstream, job });
        if !options.oldest_first && page.len() > options.limit {
            break;
        }
    }
    if options.oldest_first {
        page.reverse();
        if let Some(after) = &options.after {
            let at = page.iter().position(|found| found.job.job_id == *after);
            skipping = at.is_none();
            page = at.map(|at| page.split_off(at + 1)).unwrap_or_default();
        }
    }
    if skipping {
        return Err(Failure::field("after", "there is no such job to continue after"));
    }
    let more = page.len() > options.limit;
    page.truncate(options.limit);
    for found in &page {
        gateway.job_locations.put(found.job.job_id.as_str(), &found.upstream);
    }
    Ok((page, more))
}

fn newest_of(lists: &[JobPages<'_>]) -> Option<usize> {
    let heads = lists.iter().enumerate().filter_map(|(at, list)| Some((list.ahead.front()?.created_at, at)));
    heads.max_by_key(|(created_at, at)| (*created_at, std::cmp::Reverse(*at))).map(|(_, at)| at)
}

/// The jobs of one service, newest first, read page by page.
struct JobPages<'a> {
    upstream: &'a Arc<Upstream>,
    status: Option<String>,
    /// Jobs that have been read and not been used yet.
    ahead: VecDeque<Job>,
    cursor: Option<String>,
    /// Number of jobs read so far.
    read: usize,
    ended: bool,
}

impl<'a> JobPages<'a> {
    fn new(upstream: &'a Arc<Upstream>, status: Option<String>) -> Self {
        Self { upstream, status, ahead: VecDeque::new(), cursor: None, read: 0, ended: false }
    }

    /// Reads the next page, if there is one.
    async fn fill(&mut self, gateway: &Gateway, client: &UpstreamClient) -> Result<(), Failure> {
        if self.ended {
            return Ok(());
        }
        let path = self.next_page();
        let page = client.get::<JobList>(gateway, self.upstream, &path).await;
        self.ended = true;
        let page = page?;
        self.read += page.jobs.len();
        self.ended = page.next_cursor.is_none() || page.jobs.is_empty() || self.read >= MAX_JOBS;
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

/// `limit` if it is 1 to `most`; 20 by default.
pub(crate) fn check_limit(limit: Option<usize>, most: usize) -> Result<usize, Failure> {
    let limit = limit.unwrap_or(20);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    let failure = Failure::field("limit", format!("limit is 1 to {most}"));
    Err(failure.map(|problem| problem.limit = Some(most.into())))
}

/// A job id from a path or query. Text that cannot be an id gives 404, like an unknown job.
pub(crate) fn parse_id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|_| Failure::new(Code::JobNotFound, "there is no such job"))
}
