//! What the next process finds.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use videosdgx_api::{JobStatus, Stage};
use videosdgx_jobs::{
    Progress, Queue, QueueConfig, QueueError, QueueOptions, RetentionPolicy, Signal,
    sqlite::{SqliteOptions, SqliteQueue},
    wait,
};

use crate::support::{ann, claim, complete, job, open, submit, with_key};

/// Everything is as it was, but for leases: they are lost at once, and whoever held them is refused.
#[test]
fn a_restart_keeps_everything_but_leases() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let done = submit(&queue, with_key("k"));
    complete(&queue, &claim(&queue));
    let mut sent = job();
    sent.attachment = Some(vec![1, 2, 3]);
    sent.warnings = vec!["w".to_owned()];
    let running = submit(&queue, sent);
    let waiting = submit(&queue, job());
    let held = claim(&queue);
    let progress = Progress { stage: Stage::Denoising, step: 3, steps: 9 };
    wait(queue.progress(&held.lease, progress)).unwrap();
    let (before, totals) = (wait(queue.get(&ann(), &done)).unwrap(), wait(queue.totals()).unwrap());
    drop(queue);

    let queue = open(folder.path());
    assert_eq!(wait(queue.get(&ann(), &done)), Ok(before));
    let now = wait(queue.totals()).unwrap();
    assert_eq!((now.leases_lost, &now.last_10), (1, &totals.last_10));
    assert_eq!(now.duration_seconds_sum.to_bits(), totals.duration_seconds_sum.to_bits());
    assert!(matches!(wait(queue.renew(&held.lease)), Err(QueueError::Stale { .. })));
    let record = wait(queue.get(&ann(), &running)).unwrap();
    assert_eq!((record.status, record.attempts_used, record.queue_position), (JobStatus::Queued, 1, Some(1)));

    let again = claim(&queue);
    assert_eq!((&again.lease.job, again.lease.attempt), (&running, 2));
    assert_eq!(again.attachment, Some(vec![1, 2, 3]));
    assert_eq!(claim(&queue).lease.job, waiting);
    let known = wait(queue.submit(vec![with_key("k")])).unwrap();
    assert_eq!((&known[0].id, known[0].existing), (&done, true));
    let stream = wait(queue.subscribe(&ann(), &running, 2)).unwrap();
    let missed: Vec<_> = futures::executor::block_on(stream.take(3).collect());
    let seen: Vec<_> = missed.iter().map(|event| (event.sequence, event.status, event.step)).collect();
    let expected =
        [(3, JobStatus::Running, Some(3)), (4, JobStatus::Queued, None), (5, JobStatus::Running, None)];
    assert_eq!(seen, expected);
}

/// Numbers (and with them cursors and the order) are never given twice, even when the newest jobs are forgotten.
#[test]
fn numbers_are_never_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let id = submit(&queue, job());
    let number = wait(queue.get(&ann(), &id)).unwrap().number;
    wait(queue.cancel(&ann(), &id)).unwrap();
    wait(queue.forget(&ann(), &id)).unwrap();
    drop(queue);
    let queue = open(folder.path());
    let id = submit(&queue, job());
    assert!(wait(queue.get(&ann(), &id)).unwrap().number > number);
}

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let second = SqliteQueue::open(SqliteOptions::new(folder.path()), QueueOptions::default());
    assert_eq!(second.err(), Some(QueueError::Locked { path: folder.path().join("jobs.lock") }));
    submit(&queue, job());
    drop(queue);
    open(folder.path());
}

#[test]
fn retention_forgets_the_oldest_and_tells_whose_files_to_remove() {
    let folder = tempfile::tempdir().unwrap();
    let gone = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&gone);
    let retention = RetentionPolicy { max_ended: 2, ..QueueConfig::default().retention };
    let options = QueueOptions::from(QueueConfig { retention, ..QueueConfig::default() })
        .with_on_forgotten(move |job| heard.lock().unwrap().push(job.clone()));
    let queue = SqliteQueue::open(SqliteOptions::new(folder.path()), options).unwrap();
    let ids: Vec<_> = (0..5).map(|_| submit(&queue, job())).collect();
    for _ in 0..5 {
        complete(&queue, &claim(&queue));
    }
    // A job that waits is never forgotten, however many there are.
    let waiting = submit(&queue, job());
    assert_eq!(wait(queue.counts()).unwrap().completed, 2);
    let gone = gone.lock().unwrap();
    assert_eq!(gone.iter().map(|job| &job.id).collect::<Vec<_>>(), ids[..3].iter().collect::<Vec<_>>());
    assert_eq!(gone[0].output_path, Some(format!("{}.mp4", ids[0])));
    assert_eq!(wait(queue.find(&ids[0])), Ok(None));
    assert!(wait(queue.find(&waiting)).unwrap().is_some());
}

/// Only the newest events of a job are kept; whoever comes back too late gets those.
#[test]
fn events_of_a_job_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let config = QueueConfig { max_events_per_job: 10, ..QueueConfig::default() };
    let queue = SqliteQueue::open(SqliteOptions::new(folder.path()), config).unwrap();
    let id = submit(&queue, job());
    let held = claim(&queue);
    for step in 1..=30 {
        let progress = Progress { stage: Stage::Denoising, step, steps: 30 };
        assert_eq!(wait(queue.progress(&held.lease, progress)), Ok(Signal::Continue));
    }
    complete(&queue, &held);
    let stream = wait(queue.subscribe(&ann(), &id, 0)).unwrap();
    let kept: Vec<u64> = futures::executor::block_on(stream.map(|event| event.sequence).collect());
    assert_eq!(kept, (24..=33).collect::<Vec<u64>>());
}

/// Files of a newer program, and files that are no database, are refused with words, and left alone.
#[test]
fn unknown_files_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let path = folder.path().join("jobs.sqlite");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    let newer = SqliteQueue::open(SqliteOptions::new(folder.path()), QueueOptions::default()).err();
    assert_eq!(newer, Some(QueueError::TooNew { found: 99, known: 2 }));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.sqlite");
    std::fs::write(&path, "not a database, and longer than a hundred bytes: ".repeat(100)).unwrap();
    let broken = SqliteQueue::open(SqliteOptions::new(folder.path()), QueueOptions::default()).err();
    assert!(
        matches!(&broken, Some(QueueError::Storage(words)) if words.to_string().contains("not a database")),
        "{broken:?}"
    );
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("not a database"));
}

/// A writing thread that panics is known to the process; its callers are answered.
#[test]
fn a_writer_that_panics_is_recorded_for_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let options = QueueOptions::default().with_on_forgotten(|_| panic!("a bug"));
    let queue = SqliteQueue::open(SqliteOptions::new(folder.path()), options).unwrap();
    let id = submit(&queue, job());
    complete(&queue, &claim(&queue));
    let failure = std::thread::spawn(|| futures::executor::block_on(videosdgx_threads::thread_failure()));
    // The answer is sent before the hook is called.
    wait(queue.forget(&ann(), &id)).unwrap();
    assert_eq!(failure.join().unwrap().name, "jobs-writer");
    assert_eq!(wait(queue.counts()).err(), Some(QueueError::Closed));
}

/// Jobs hold prompts and pictures: nobody else on the machine can read them, whoever made the folder before.
#[test]
fn folder_and_files_belong_to_the_user_alone() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("shared/wan21");
    let names = ["jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm", "jobs.lock"];
    for round in ["new", "made by an older version"] {
        let queue = open(&folder);
        submit(&queue, job());
        assert_eq!(mode(&folder), 0o700, "{round}");
        for name in names {
            assert_eq!(mode(&folder.join(name)), 0o600, "{round}: {name}");
        }
        drop(queue);
        for name in ["jobs.sqlite", "jobs.lock"] {
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
