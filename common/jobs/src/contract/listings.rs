//! Checks of listings, counts and totals.

use std::time::{Duration, Instant};

use videosdgx_api::{JobId, JobStatus};

use super::{Open, support::*};
use crate::{Cursor, ListOrder, ListQuery, QueueConfig, QueueError, wait};

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

/// A listing goes in either order, and begins after a place, a job or a time; jobs of others do not count.
pub fn lists_begin_anywhere_in_both_orders(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let mut ids = Vec::new();
    for _ in 0..3 {
        // Jobs of one batch have the same time; the next batch has a later one.
        let jobs: Vec<_> = (0..3).map(|_| job(&ann())).collect();
        ids.extend(jobs.iter().map(|job| job.id.clone()));
        wait(queue.submit(jobs)).expect("accepted");
        submit(&queue, job(&bob()));
        let submitted = Instant::now();
        while submitted.elapsed() < Duration::from_millis(3) {
            std::thread::yield_now();
        }
    }
    let list = |query: ListQuery| wait(queue.list(&ann(), query));
    let names = |query: ListQuery| -> Vec<JobId> {
        list(query).expect("a page").jobs.into_iter().map(|record| record.id).collect()
    };
    let of = |order| ListQuery { order, ..ListQuery::default() };
    let reversed: Vec<JobId> = ids.iter().rev().cloned().collect();
    assert_eq!(names(of(ListOrder::NewestFirst)), reversed);
    assert_eq!(names(of(ListOrder::OldestFirst)), ids);
    for (at, id) in ids.iter().enumerate() {
        let after = |order| ListQuery { after: Some(id.clone()), ..of(order) };
        assert_eq!(names(after(ListOrder::OldestFirst)), ids[at + 1..]);
        assert_eq!(names(after(ListOrder::NewestFirst)), reversed[ids.len() - at..]);
        let created = get(&queue, &ann(), id).created_at;
        let first_of_batch = at / 3 * 3;
        for order in [ListOrder::OldestFirst, ListOrder::NewestFirst] {
            let sorted = |names: &[JobId]| match order {
                ListOrder::OldestFirst => names.to_vec(),
                ListOrder::NewestFirst => names.iter().rev().cloned().collect(),
            };
            let before = ListQuery { created_before: Some(created), ..of(order) };
            assert_eq!(names(before), sorted(&ids[..first_of_batch]), "{at} {order:?}");
            let later = ListQuery { created_after: Some(created), ..of(order) };
            assert_eq!(names(later), sorted(&ids[first_of_batch + 3..]), "{at} {order:?}");
        }
    }
    let mut query = ListQuery { limit: 2, ..of(ListOrder::OldestFirst) };
    let mut seen = Vec::new();
    loop {
        let page = list(query.clone()).expect("a page");
        seen.extend(page.jobs.into_iter().map(|record| record.id));
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let (bobs, nobodys) = (submit(&queue, job(&bob())), "test-000000000000".parse().expect("an id"));
    for unknown in [bobs, nobodys] {
        let query = ListQuery { after: Some(unknown), ..ListQuery::default() };
        assert_eq!(list(query), Err(QueueError::NotFound));
    }
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
