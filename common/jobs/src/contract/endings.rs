//! Checks of how jobs end.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use videosdgx_api::{JobId, JobStatus, Stage};

use super::{Open, support::*};
use crate::{Forgotten, QueueConfig, QueueError, QueueOptions, RetentionPolicy, Signal, wait};

/// A completed job shows its result.
pub fn completed_job_has_its_output(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, job(&ann()));
    let claimed = claim(&queue);
    assert_eq!(
        wait(queue.complete(&claimed.lease, output("v.mp4"))).map(|ended| ended.status),
        Ok(JobStatus::Completed)
    );
    let record = get(&queue, &ann(), &id);
    assert_eq!(
        (record.status, record.percent, record.output),
        (JobStatus::Completed, 100, Some(output("v.mp4")))
    );
    assert!(record.started_at <= record.finished_at && record.finished_at.is_some());
}

/// Cancelling a waiting job ends it at once; cancelling it again has no further effect.
pub fn cancel_of_a_waiting_job_is_at_once(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, job(&ann()));
    assert_eq!(wait(queue.cancel(&ann(), &id)), Ok(JobStatus::Cancelled));
    assert_eq!(wait(queue.cancel(&ann(), &id)), Ok(JobStatus::Cancelled));
    assert!(nothing_to_claim(&queue));
    let record = get(&queue, &ann(), &id);
    assert_eq!((record.status, record.attempt), (JobStatus::Cancelled, 0));
    assert!(record.finished_at.is_some());
}

/// The worker of a running job sees the cancellation in its flag and in the result of every write; a later result is not
/// accepted.
pub fn cancel_of_a_running_job_reaches_its_worker(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    for obedient in [true, false] {
        let id = submit(&queue, job(&ann()));
        let claimed = claim(&queue);
        assert_eq!(claimed.cancel.get(), Signal::Continue);
        assert_eq!(wait(queue.cancel(&ann(), &id)), Ok(JobStatus::Running));
        assert_eq!(wait(queue.renew(&claimed.lease)), Ok(Signal::Cancel));
        assert_eq!(claimed.cancel.get(), Signal::Cancel);
        assert!(get(&queue, &ann(), &id).cancel_requested);
        let ended = if obedient {
            wait(queue.cancelled(&claimed.lease))
        } else {
            wait(queue.complete(&claimed.lease, output("v.mp4")))
        };
        assert_eq!(ended.map(|ended| ended.status), Ok(JobStatus::Cancelled));
        let record = get(&queue, &ann(), &id);
        assert_eq!((record.status, record.output), (JobStatus::Cancelled, None));
    }
    assert_eq!(wait(queue.totals()).expect("totals").cancelled, 2);

    // A worker that dies after the cancellation leaves a cancelled job, not another attempt.
    let queue = open(short_leases().into());
    let id = submit(&queue, job(&ann()));
    drop(claim(&queue));
    assert_eq!(wait(queue.cancel(&ann(), &id)), Ok(JobStatus::Running));
    let deadline = Instant::now() + SOON;
    while status(&queue, &ann(), &id) != JobStatus::Cancelled {
        assert!(Instant::now() < deadline, "not cancelled in time");
        assert!(wait(queue.claim("pause", Duration::from_millis(20))).expect("claims work").is_none());
    }
}

/// Temporary failures are retried until the attempts are used up; others fail at once.
pub fn failures_are_tried_again_up_to_the_cap(open: Open<'_>) {
    let delays = [60, 120, 1].map(Duration::from_millis);
    let queue = open(QueueConfig { retry_delays: delays, ..QueueConfig::default() }.into());
    let id = submit(&queue, job(&ann()));
    let mut failed_at = Instant::now();
    for (attempt, then) in [(1, JobStatus::Queued), (2, JobStatus::Queued), (3, JobStatus::Failed)] {
        let claimed = claim(&queue);
        assert_eq!(claimed.lease.attempt, attempt);
        let delay = if attempt == 1 { Duration::ZERO } else { delays[attempt as usize - 2] };
        assert!(failed_at.elapsed() >= delay.mul_f64(0.9), "attempt {attempt}: {:?}", failed_at.elapsed());
        assert_eq!(wait(queue.fail(&claimed.lease, failure(), true)).map(|ended| ended.status), Ok(then));
        failed_at = Instant::now();
        assert!(nothing_to_claim(&queue), "attempt {attempt} is not followed by the next one at once");
        assert_eq!(get(&queue, &ann(), &id).failure, Some(failure()));
    }
    let hopeless = submit(&queue, job(&ann()));
    let claimed = claim(&queue);
    assert_eq!(
        wait(queue.fail(&claimed.lease, failure(), false)).map(|ended| ended.status),
        Ok(JobStatus::Failed)
    );
    assert_eq!(get(&queue, &ann(), &hopeless).attempts_used, 1);
    assert!(nothing_to_claim(&queue));

    // After a success, the failure of an earlier attempt is no longer reported.
    let lucky = submit(&queue, job(&ann()));
    assert!(wait(queue.fail(&claim(&queue).lease, failure(), true)).is_ok());
    assert_eq!(complete(&queue, &claim(&queue)), JobStatus::Completed);
    assert_eq!(get(&queue, &ann(), &lucky).failure, None);
}

/// A release returns the job to the queue unchanged, after the delay.
pub fn release_uses_up_no_attempt(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, job(&ann()));
    for attempt in 1..=5 {
        let claimed = claim(&queue);
        assert_eq!((claimed.lease.attempt, claimed.attempts_used), (attempt, 0));
        let released = wait(queue.release(&claimed.lease, None, Duration::ZERO));
        assert_eq!(released.map(|ended| ended.status), Ok(JobStatus::Queued));
        assert!(is_stale(&wait(queue.renew(&claimed.lease))));
    }
    let claimed = claim(&queue);
    let begun = Instant::now();
    assert!(wait(queue.release(&claimed.lease, None, Duration::from_millis(150))).is_ok());
    assert!(nothing_to_claim(&queue));
    assert_eq!(status(&queue, &ann(), &id), JobStatus::Queued);
    assert_eq!(claim(&queue).lease.job, id);
    assert!(begun.elapsed() >= Duration::from_millis(140), "{:?}", begun.elapsed());
}

/// A job that was released because something is missing says so until it is claimed again.
pub fn released_job_says_what_it_waits_for(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, job(&ann()));
    let claimed = claim(&queue);
    assert!(wait(queue.release(&claimed.lease, Some(failure()), Duration::ZERO)).is_ok());
    let record = get(&queue, &ann(), &id);
    assert_eq!(
        (record.status, record.attempts_used, record.failure),
        (JobStatus::Queued, 0, Some(failure()))
    );
    assert_eq!(record.progress.map(|progress| progress.stage), Some(Stage::Waiting));
    let stream = wait(queue.subscribe(&ann(), &id, 2)).expect("a stream");
    let event = futures::executor::block_on(stream.into_future()).0.expect("an event");
    assert_eq!((event.status, event.stage), (JobStatus::Queued, Some(Stage::Waiting)));
    assert_eq!(event.error, Some(failure().message));

    let claimed = claim(&queue);
    let record = get(&queue, &ann(), &id);
    assert_eq!((record.status, record.failure, record.progress), (JobStatus::Running, None, None));
    assert!(wait(queue.release(&claimed.lease, None, Duration::ZERO)).is_ok());
    let record = get(&queue, &ann(), &id);
    assert_eq!((record.status, record.failure, record.progress), (JobStatus::Queued, None, None));
}

/// Nothing leaves a final state.
pub fn final_states_are_final(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, job(&ann()));
    let claimed = claim(&queue);
    complete(&queue, &claimed);
    let before = get(&queue, &ann(), &id);
    assert!(is_stale(&wait(queue.complete(&claimed.lease, output("again.mp4")))));
    assert!(is_stale(&wait(queue.fail(&claimed.lease, failure(), true))));
    assert!(is_stale(&wait(queue.release(&claimed.lease, None, Duration::ZERO))));
    let cancelled = wait(queue.cancel(&ann(), &id));
    assert_eq!(cancelled, Err(QueueError::AlreadyEnded { status: JobStatus::Completed }));
    assert!(nothing_to_claim(&queue));
    assert_eq!(get(&queue, &ann(), &id), before);
}

/// An ended job can be forgotten and is unknown afterwards; a job that has not ended cannot be forgotten.
pub fn forgotten_jobs_are_gone(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, with_key(job(&ann()), "k", 1));
    assert_eq!(wait(queue.forget(&ann(), &id)), Err(QueueError::NotEnded { status: JobStatus::Queued }));
    let claimed = claim(&queue);
    assert_eq!(wait(queue.forget(&ann(), &id)), Err(QueueError::NotEnded { status: JobStatus::Running }));
    complete(&queue, &claimed);
    let forgotten = wait(queue.forget(&ann(), &id)).expect("it has ended");
    assert_eq!((&forgotten.id, forgotten.output_path), (&id, Some(format!("{id}.mp4"))));
    assert_eq!(wait(queue.get(&ann(), &id)), Err(QueueError::NotFound));
    assert_eq!(wait(queue.forget(&ann(), &id)), Err(QueueError::NotFound));
    assert_eq!(wait(queue.counts()).expect("counts").completed, 0);
    assert_eq!(wait(queue.totals()).expect("totals").successful, 1);
    let fresh = wait(queue.submit(vec![with_key(job(&ann()), "k", 2)])).expect("the key is free again");
    assert!(!fresh[0].existing);
}

/// The hook of the options is called for each forgotten job with its file, whether the owner or the retention policy removed it.
pub fn forgotten_jobs_are_reported(open: Open<'_>) {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let reported = Arc::clone(&reported);
        move |job: &Forgotten| reported.lock().expect("no check panicked").push(job.clone())
    };
    let retention = RetentionPolicy { max_ended: 2, ..QueueConfig::default().retention };
    let config = QueueConfig { retention, ..QueueConfig::default() };
    let queue = open(QueueOptions::from(config).with_on_forgotten(hook));
    let ids: Vec<JobId> = (0..3).map(|_| submit(&queue, job(&ann()))).collect();
    for _ in &ids {
        complete(&queue, &claim(&queue));
    }
    wait(queue.forget(&ann(), &ids[2])).expect("forgotten");
    // The hook runs after the response to its request and before the response to a later one.
    wait(queue.counts()).expect("counts");
    let expected =
        [&ids[0], &ids[2]].map(|id| Forgotten { id: id.clone(), output_path: Some(format!("{id}.mp4")) });
    assert_eq!(*reported.lock().expect("no check panicked"), expected);
}
