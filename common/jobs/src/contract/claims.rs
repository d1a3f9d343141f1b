//! Checks of the order of claims and of leases.

use std::time::{Duration, Instant};

use videosdgx_api::JobStatus;

use super::{Open, support::*};
use crate::{QueueConfig, Signal, wait};

/// More urgent first, then first in, first out.
pub fn claims_are_in_order(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let low = submit(&queue, with_priority(job(&ann()), 0));
    let first = submit(&queue, job(&ann()));
    let second = submit(&queue, job(&ann()));
    let high = submit(&queue, with_priority(job(&ann()), 9));
    assert_eq!(get(&queue, &ann(), &low).queue_position, Some(4));
    assert_eq!(get(&queue, &ann(), &high).queue_position, Some(1));
    let claimed: Vec<_> = (0..4).map(|_| claim(&queue).lease.job).collect();
    assert_eq!(claimed, [high, first, second, low]);
    assert!(nothing_to_claim(&queue));
}

/// A waiting worker gets a job as soon as one is submitted; if none is, its claim ends in time without a job.
pub fn waiting_claim_is_woken(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let begun = Instant::now();
    assert_eq!(
        wait(queue.claim("w", Duration::from_millis(60))).expect("claims work").map(|c| c.lease),
        None
    );
    assert!(begun.elapsed() >= Duration::from_millis(50), "{:?}", begun.elapsed());

    let waiting = queue.claim("w", SOON);
    assert_eq!(wait(queue.counts()).expect("counts").waiting_workers, 1);
    let id = submit(&queue, job(&ann()));
    let claimed = wait(waiting).expect("claims work").expect("a job came");
    assert_eq!((&claimed.lease.job, claimed.lease.attempt, claimed.attempts_used), (&id, 1, 0));
    let record = get(&queue, &ann(), &id);
    assert_eq!((record.status, record.attempt, record.queue_position), (JobStatus::Running, 1, None));
    assert!(record.started_at.is_some());
}

/// A claim that its worker has dropped gets no job.
pub fn dropped_claim_claims_nothing(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    for _ in 0..5 {
        drop(queue.claim("gone", SOON));
    }
    let id = submit(&queue, job(&ann()));
    let claimed = claim(&queue);
    assert_eq!(claimed.lease.job, id);
    assert_eq!(claimed.attempts_used, 0);
}

/// After `close_claims` no claim gets a job, and waiting claims end at once; everything else continues.
pub fn closed_claims_get_nothing(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    submit(&queue, job(&ann()));
    let held = claim(&queue);
    let waiting = queue.claim("w", SOON * 100);
    queue.close_claims();
    assert!(wait(waiting).expect("claims work").is_none());
    let late = submit(&queue, job(&ann()));
    assert!(wait(queue.claim("w", SOON)).expect("claims work").is_none());
    assert_eq!(complete(&queue, &held), JobStatus::Completed);
    assert_eq!(status(&queue, &ann(), &late), JobStatus::Queued);
}

/// A lease that is not renewed ends: the job runs again under the next attempt, and the late worker is refused.
pub fn lost_lease_is_given_to_another(open: Open<'_>) {
    let queue = open(short_leases().into());
    let id = submit(&queue, job(&ann()));
    let lost = claim(&queue);
    let again = claim(&queue);
    assert_eq!((&again.lease.job, again.lease.attempt, again.attempts_used), (&id, 2, 1));
    assert_eq!(lost.cancel.get(), Signal::Lost);
    assert!(is_stale(&wait(queue.renew(&lost.lease))));
    assert!(is_stale(&wait(queue.warn(&lost.lease, "late".to_owned()))));
    assert!(is_stale(&wait(queue.complete(&lost.lease, output("late.mp4")))));
    assert!(is_stale(&wait(queue.fail(&lost.lease, failure(), true))));
    assert!(is_stale(&wait(queue.release(&lost.lease, None, Duration::ZERO))));
    assert!(is_stale(&wait(queue.cancelled(&lost.lease))));
    assert_eq!(complete(&queue, &again), JobStatus::Completed);
    assert!(is_stale(&wait(queue.complete(&lost.lease, output("late.mp4")))));
    let record = get(&queue, &ann(), &id);
    assert_eq!(record.output.map(|output| output.path), Some(format!("{id}.mp4")));
    assert_eq!(record.warnings, Vec::<String>::new());
    assert_eq!(wait(queue.totals()).expect("totals").leases_lost, 1);
}

/// A lease that is renewed is kept beyond its original length.
pub fn renewed_lease_is_kept(open: Open<'_>) {
    let queue = open(QueueConfig { lease: Duration::from_millis(400), ..QueueConfig::default() }.into());
    submit(&queue, job(&ann()));
    let held = claim(&queue);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_000) {
        assert_eq!(wait(queue.renew(&held.lease)), Ok(Signal::Continue));
        // No other worker gets it meanwhile: this wait is the pause between renewals.
        assert!(wait(queue.claim("thief", Duration::from_millis(50))).expect("claims work").is_none());
    }
    assert_eq!(complete(&queue, &held), JobStatus::Completed);
}

/// A job whose worker dies in every attempt is `dead` after the last one, and other jobs continue.
pub fn dead_after_the_last_attempt(open: Open<'_>) {
    let queue = open(short_leases().into());
    let killer = submit(&queue, with_priority(job(&ann()), 9));
    for attempt in 1..=3 {
        let claimed = claim(&queue);
        assert_eq!((&claimed.lease.job, claimed.lease.attempt), (&killer, attempt));
    }
    let next = submit(&queue, job(&ann()));
    // This claim waits until the last lease has ended.
    assert_eq!(claim(&queue).lease.job, next);
    let deadline = Instant::now() + SOON;
    while status(&queue, &ann(), &killer) != JobStatus::Dead {
        assert!(Instant::now() < deadline, "not dead in time");
        let _ = wait(queue.claim("pause", Duration::from_millis(20)));
    }
    let record = get(&queue, &ann(), &killer);
    assert_eq!((record.attempts_used, record.attempt), (3, 3));
    assert_eq!(record.failure.map(|failure| failure.code).as_deref(), Some("worker_lost"));
    assert_eq!(wait(queue.counts()).expect("counts").dead, 1);
}
