//! Checks of listings, counts and totals.

use videosdgx_api::JobStatus;

use super::{Open, support::*};
use crate::{Cursor, ListQuery, QueueConfig, QueueError, wait};

/// The caller's own jobs are listed newest first, by page and by status; new jobs do not change later pages.
pub fn lists_are_newest_first_in_pages(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let mut ids: Vec<_> = (0..7).map(|_| submit(&queue, job(&ann()))).collect();
    submit(&queue, job(&bob()));
    for id in &ids[..3] {
        assert!(wait(queue.cancel(&ann(), id)).is_ok());
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut query = ListQuery { limit: 3, ..ListQuery::default() };
    loop {
        let page = wait(queue.list(&ann(), query.clone())).expect("a page");
        assert!(page.jobs.len() <= 3);
        seen.extend(page.jobs.into_iter().map(|record| record.id));
        match page.next {
            Some(next) => {
                query.cursor = Some(next.to_string().parse::<Cursor>().expect("cursors round-trip"))
            }
            None => break,
        }
        submit(&queue, job(&ann()));
    }
    assert_eq!(seen, ids);

    let statuses = vec![JobStatus::Cancelled, JobStatus::Failed];
    let page = wait(queue.list(&ann(), ListQuery { statuses, ..ListQuery::default() })).expect("a page");
    assert_eq!(page.jobs.iter().map(|record| record.id.clone()).collect::<Vec<_>>(), ids[4..]);
    assert!(page.jobs.iter().all(|record| record.queue_position.is_none()) && page.next.is_none());
    let waiting = ListQuery { statuses: vec![JobStatus::Queued], limit: 0, ..ListQuery::default() };
    let page = wait(queue.list(&ann(), waiting)).expect("a page");
    assert_eq!(page.jobs.len(), 1);
    assert!(page.jobs[0].queue_position.is_some() && page.next.is_some());
}

/// Jobs of other principals are answered as unknown.
pub fn other_peoples_jobs_are_not_found(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, job(&ann()));
    assert_eq!(wait(queue.get(&bob(), &id)), Err(QueueError::NotFound));
    assert_eq!(wait(queue.cancel(&bob(), &id)), Err(QueueError::NotFound));
    assert_eq!(wait(queue.forget(&bob(), &id)), Err(QueueError::NotFound));
    assert_eq!(wait(queue.subscribe(&bob(), &id, 0)).map(|_| ()), Err(QueueError::NotFound));
    assert!(wait(queue.list(&bob(), ListQuery::default())).expect("a page").jobs.is_empty());
    assert_eq!(status(&queue, &ann(), &id), JobStatus::Queued);
}

/// Counts give the number of jobs in each state, totals the outcomes of all jobs.
pub fn counts_and_totals_add_up(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    for priority in [0, 5, 5, 9, 9, 9] {
        submit(&queue, with_priority(job(&ann()), priority));
    }
    let counts = wait(queue.counts()).expect("counts");
    assert_eq!(counts.queued_by_priority, [1, 0, 0, 0, 0, 2, 0, 0, 0, 3]);
    let first = claim(&queue);
    let second = claim(&queue);
    let third = claim(&queue);
    complete(&queue, &first);
    assert!(wait(queue.fail(&second.lease, failure(), false)).is_ok());
    let counts = wait(queue.counts()).expect("counts");
    assert_eq!((counts.queued(), counts.running, counts.completed, counts.failed), (3, 1, 1, 1));
    assert_eq!(counts.of(JobStatus::Running), 1);

    let totals = wait(queue.totals()).expect("totals");
    assert_eq!((totals.submitted, totals.total_inferences, totals.successful, totals.failed), (6, 2, 1, 1));
    assert_eq!((totals.success_rate(), totals.prompt_characters_avg()), (Some(0.5), Some(12.0)));
    let average = totals.duration_seconds_avg().expect("one is completed");
    assert!(Some(average) == totals.duration_seconds_min && Some(average) == totals.duration_seconds_max);
    let last: Vec<_> = totals.last_10.iter().map(|record| (record.job_id.clone(), record.status)).collect();
    assert_eq!(last, [(second.lease.job, JobStatus::Failed), (first.lease.job, JobStatus::Completed)]);
    complete(&queue, &third);
    for _ in 0..12 {
        submit(&queue, job(&ann()));
        complete(&queue, &claim(&queue));
    }
    assert_eq!(wait(queue.totals()).expect("totals").last_10.len(), 10);
}
