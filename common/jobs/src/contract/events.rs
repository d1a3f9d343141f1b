//! Checks of progress and events.

use futures::StreamExt;
use videosdgx_api::{EventKind, JobEvent, JobId, JobStatus, Stage};

use super::{Open, support::*};
use crate::{EventStream, Progress, QueueConfig, QueueError, Signal, wait};

fn at(stage: Stage, step: u32, steps: u32) -> Progress {
    Progress { stage, step, steps }
}

fn all(stream: EventStream) -> Vec<JobEvent> {
    futures::executor::block_on(stream.collect())
}

fn next(stream: &mut EventStream) -> JobEvent {
    futures::executor::block_on(stream.next()).expect("the stream goes on")
}

fn subscribe(queue: &std::sync::Arc<dyn crate::Queue>, id: &JobId, after: u64) -> EventStream {
    wait(queue.subscribe(&ann(), id, after)).expect("one's own job")
}

/// Every change is an event with the next number; a resumed stream gets the missed events, once, then the live ones.
pub fn events_are_numbered_and_resumed(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, job(&ann()));
    let mut early = subscribe(&queue, &id, 0);
    assert_eq!(next(&mut early).status, JobStatus::Queued);
    let claimed = claim(&queue);
    for step in 1..=4 {
        assert_eq!(wait(queue.progress(&claimed.lease, at(Stage::Denoising, step, 4))), Ok(Signal::Continue));
    }
    let mut resumed = subscribe(&queue, &id, 3);
    assert_eq!(complete(&queue, &claimed), JobStatus::Completed);

    let events: Vec<_> = std::iter::from_fn(|| futures::executor::block_on(early.next())).collect();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
    assert!(events.iter().all(|event| event.job_id == id && event.attempt == 1));
    assert_eq!((events[0].kind, events[0].status), (EventKind::State, JobStatus::Running));
    assert_eq!(
        (events[2].kind, events[2].stage, events[2].step),
        (EventKind::Progress, Some(Stage::Denoising), Some(2))
    );
    assert_eq!((events[5].status, events[5].progress), (JobStatus::Completed, 100));

    let first = next(&mut resumed);
    assert_eq!(first, events[2]);
    assert_eq!(all(resumed), events[3..]);
    // After the end of the job, the stored events are the same.
    assert_eq!(all(subscribe(&queue, &id, 1)), events);
    assert_eq!(get(&queue, &ann(), &id).sequence, 7);
}

/// Streams end after the final event, and do not start after it.
pub fn streams_end_with_the_job(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, job(&ann()));
    let live = subscribe(&queue, &id, 1);
    assert_eq!(wait(queue.cancel(&ann(), &id)), Ok(JobStatus::Cancelled));
    assert_eq!(all(live).iter().map(|event| event.status).collect::<Vec<_>>(), [JobStatus::Cancelled]);
    assert!(all(subscribe(&queue, &id, 2)).is_empty());
    let nobody: JobId = "test-000000000000".parse().expect("an id");
    assert_eq!(wait(queue.subscribe(&ann(), &nobody, 0)).map(|_| ()), Err(QueueError::NotFound));
}

/// Progress is part of the record, never decreases within an attempt, and starts again with the next one. Equal warnings
/// are stored once.
pub fn progress_goes_forward(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let id = submit(&queue, job(&ann()));
    let claimed = claim(&queue);
    let half = at(Stage::Denoising, 10, 20);
    assert_eq!(wait(queue.progress(&claimed.lease, half)), Ok(Signal::Continue));
    assert_eq!(wait(queue.progress(&claimed.lease, at(Stage::Encoding, 1, 1))), Ok(Signal::Continue));
    assert_eq!(wait(queue.progress(&claimed.lease, half)), Ok(Signal::Continue));
    for warning in ["slow", "slow", "hot"] {
        assert_eq!(wait(queue.warn(&claimed.lease, warning.to_owned())), Ok(Signal::Continue));
    }
    let record = get(&queue, &ann(), &id);
    assert_eq!((record.progress, record.percent, record.sequence), (Some(half), half.percent(), 3));
    assert_eq!(record.warnings, ["slow", "hot"]);
    assert!(wait(queue.fail(&claimed.lease, failure(), true)).is_ok());
    let record = get(&queue, &ann(), &id);
    assert_eq!((record.progress, record.percent), (None, 0));
    let again = claim(&queue);
    assert!(wait(queue.progress(&again.lease, at(Stage::Loading, 0, 1))).is_ok());
    assert_eq!(get(&queue, &ann(), &id).progress, Some(at(Stage::Loading, 0, 1)));
}
