//! Jobs of several services: finding one of them, and listing all of them by time.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use jiff::SignedDuration;
use videosdgx_api::{Code, Job, JobId, JobList};

use crate::Gateway;
use crate::failure::Failure;
use crate::upstream::{Model, Upstream};
use crate::upstream_client::UpstreamClient;

/// Most jobs that a service lists in one answer.
const MAX_PAGE: usize = 200;

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

/// One page of the caller's jobs at all of these services, and whether there are more. Each service is asked once, for one
/// job more than the page has. A service that does not answer is skipped, unless none answers.
pub(crate) async fn list(
    gateway: &Gateway,
    client: &UpstreamClient,
    upstreams: &[Arc<Upstream>],
    options: &ListOptions,
) -> Result<(Vec<LocatedJob>, bool), Failure> {
    let after = match &options.after {
        Some(id) => Some(find(gateway, client, upstreams, id).await.map_err(unknown_after)?),
        None => None,
    };
    let after = after.as_ref().and_then(|job| {
        let at = upstreams.iter().position(|upstream| Arc::ptr_eq(upstream, &job.upstream))?;
        Some((at, &job.job))
    });
    let requests = upstreams.iter().enumerate().map(|(at, upstream)| async move {
        let answer = client.get::<JobList>(gateway, upstream, &first_jobs(options, after, at)).await;
        answer.map(|list| (at, list))
    });
    let mut failure = None;
    let mut found: Vec<(usize, Job)> = Vec::new();
    let (mut all_failed, mut more) = (!upstreams.is_empty(), false);
    for answer in futures::future::join_all(requests).await {
        match answer {
            Ok((at, list)) => {
                all_failed = false;
                more |= list.next_cursor.is_some();
                found.extend(list.jobs.into_iter().map(|job| (at, job)));
            }
            Err(error) => failure = Some(error),
        }
    }
    if let (true, Some(failure)) = (all_failed, failure) {
        return Err(failure);
    }
    // The sort is stable: jobs of one service that were accepted in the same millisecond stay in its order.
    if options.oldest_first {
        found.sort_by_key(|(at, job)| (job.created_at, Reverse(*at)));
    } else {
        found.sort_by_key(|(at, job)| (Reverse(job.created_at), *at));
    }
    more |= found.len() > options.limit;
    found.truncate(options.limit);
    let page = found.into_iter().filter_map(|(at, job)| {
        let upstream = Arc::clone(upstreams.get(at)?);
        gateway.job_locations.put(job.job_id.as_str(), &upstream);
        Some(LocatedJob { upstream, job })
    });
    Ok((page.collect(), more))
}

/// Path of the first jobs of service `at` after the job `after`, which another service may have. Of jobs with the same time,
/// the newest first are those of the service that is listed first, and the oldest first in the reverse order.
fn first_jobs(options: &ListOptions, after: Option<(usize, &Job)>, at: usize) -> String {
    let mut query = url::form_urlencoded::Serializer::for_suffix(String::from("/jobs?"), "/jobs?".len());
    query.append_pair("limit", &(options.limit + 1).min(MAX_PAGE).to_string());
    query.append_pair("order", if options.oldest_first { "asc" } else { "desc" });
    if let Some(status) = &options.status {
        query.append_pair("status", status);
    }
    if let Some((owner, job)) = after {
        let created = job.created_at;
        // Services know times in milliseconds.
        let millisecond = SignedDuration::from_millis(1);
        match (at.cmp(&owner), options.oldest_first) {
            (Ordering::Equal, _) => query.append_pair("after", job.job_id.as_str()),
            (Ordering::Less, false) => query.append_pair("created_before", &created.to_string()),
            (Ordering::Greater, false) => {
                let later = created.saturating_add(millisecond).unwrap_or(created);
                query.append_pair("created_before", &later.to_string())
            }
            (Ordering::Greater, true) => query.append_pair("created_after", &created.to_string()),
            (Ordering::Less, true) => {
                let earlier = created.saturating_sub(millisecond).unwrap_or(created);
                query.append_pair("created_after", &earlier.to_string())
            }
        };
    }
    query.finish()
}

fn unknown_after(failure: Failure) -> Failure {
    match failure.problem().status {
        404 => Failure::field("after", "there is no such job to continue after"),
        _ => failure,
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
