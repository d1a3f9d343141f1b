//! No space left.

use std::path::PathBuf;

use videosdgx_api::JobStatus;
use videosdgx_jobs::{
    JobOutput, LeaseKeeper, Queue, QueueError, QueueOptions, Signal,
    sqlite::{SqliteOptions, SqliteQueue},
    wait,
};

use crate::support::{ann, claim, job, submit};

/// Submits jobs with attachments until there is no space; what came before stays, and space that is freed is used again.
fn fill_and_free(queue: SqliteQueue) {
    let queue = std::sync::Arc::new(queue);
    let running = submit(&queue, job());
    let held = claim(&queue);
    let keeper =
        LeaseKeeper::start(queue.clone(), &held, std::time::Duration::from_millis(5)).expect("a thread");
    let large = || videosdgx_jobs::Submission { attachment: Some(vec![7; 300_000]), ..job() };
    let mut accepted = Vec::new();
    let refused = loop {
        match wait(queue.submit(vec![large()])) {
            Ok(answers) => accepted.push(answers[0].id.clone()),
            Err(error) => break error,
        }
        assert!(accepted.len() < 1_000, "never full");
    };
    assert_eq!(refused, QueueError::StorageFull);
    assert!(accepted.len() > 3, "{}", accepted.len());
    // The refused one left nothing behind, the others are all there, and the worker still holds its job.
    let counts = wait(queue.counts()).expect("reading needs no space");
    assert_eq!((counts.queued(), counts.running), (accepted.len() as u64, 1));
    for id in &accepted {
        assert_eq!(wait(queue.get(&ann(), id)).expect("there").status, JobStatus::Queued);
    }
    assert_eq!(held.cancel.get(), Signal::Continue);

    for id in accepted.drain(..3) {
        wait(queue.cancel(&ann(), &id)).expect("small writes still fit");
        wait(queue.forget(&ann(), &id)).expect("small writes still fit");
    }
    wait(queue.submit(vec![large()])).expect("there is space again");
    let output = JobOutput { path: "v.mp4".to_owned(), bytes: 1, used: "{}".to_owned() };
    wait(queue.complete(&held.lease, output)).expect("the lease was kept all along");
    drop(keeper);
    assert_eq!(wait(queue.get(&ann(), &running)).expect("there").status, JobStatus::Completed);
}

#[test]
fn a_full_database_refuses_and_recovers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SqliteOptions::new(folder.path()).with_max_database_bytes(4 << 20);
    fill_and_free(SqliteQueue::open(options, QueueOptions::default()).expect("opens"));
}

/// R8 on a real file system: `JOBS_SMALL_DISK` is a folder on one of some 16 MiB.
#[test]
#[ignore = "needs a small file system"]
fn a_full_disk_refuses_and_recovers() {
    let Some(disk) = std::env::var_os("JOBS_SMALL_DISK").map(PathBuf::from) else { return };
    let ballast = disk.join("ballast");
    let queue =
        SqliteQueue::open(SqliteOptions::new(disk.join("state")), QueueOptions::default()).expect("opens");
    std::fs::write(&ballast, vec![0; 2 << 20]).expect("there is space");
    let large = || videosdgx_jobs::Submission { attachment: Some(vec![7; 300_000]), ..job() };
    let mut accepted = Vec::new();
    let refused = loop {
        match wait(queue.submit(vec![large()])) {
            Ok(answers) => accepted.push(answers[0].id.clone()),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, QueueError::StorageFull);
    assert_eq!(wait(queue.submit(vec![large()])), Err(QueueError::StorageFull));
    std::fs::remove_file(&ballast).expect("ours");
    let begun = std::time::Instant::now();
    accepted.push(submit(&queue, large()));
    eprintln!("{} accepted, works {:?} after space is freed", accepted.len(), begun.elapsed());
    drop(queue);
    let queue =
        SqliteQueue::open(SqliteOptions::new(disk.join("state")), QueueOptions::default()).expect("opens");
    assert_eq!(wait(queue.counts()).expect("counts").queued(), accepted.len() as u64);
}
