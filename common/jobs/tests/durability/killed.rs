//! kill -9, and being found again. The test starts its own program as the process to be killed; `STORM_KILLS=200` is the long form.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use videosdgx_api::{JobId, JobStatus};
use videosdgx_jobs::{
    ListQuery, Principal, Queue, QueueConfig, QueueOptions,
    sqlite::{SqliteOptions, SqliteQueue},
    wait,
};

use crate::support::{ann, claim, job, open, submit};

const FOLDER: &str = "JOBS_TEST_FOLDER";

/// Runs `test` of this very program as another process, on `folder`.
fn start(test: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program starts")
}

fn unbounded() -> QueueConfig {
    QueueConfig { max_queued: 1_000_000, max_queued_per_principal: 1_000_000, ..QueueConfig::default() }
}

/// The process to be killed: eight clients submit as fast as they can, and every answer is printed.
#[test]
#[ignore = "started by the tests below"]
fn child_submits_for_ever() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let queue = SqliteQueue::open(SqliteOptions::new(folder), unbounded()).expect("opens");
    let answers = Mutex::new(std::io::stdout());
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (queue, answers) = (&queue, &answers);
            scope.spawn(move || {
                loop {
                    let mut sent = job();
                    sent.principal = Principal::new(format!("client-{client}"));
                    let id = submit(queue, sent);
                    let mut answers = answers.lock().expect("no client panics");
                    // The harness prints on the same line, so the answer has one of its own.
                    writeln!(answers, "\naccepted {client} {id}").expect("somebody listens");
                    answers.flush().expect("somebody listens");
                }
            });
        }
    });
}

/// The process to be killed: takes a job and aborts.
#[test]
#[ignore = "started by the tests below"]
fn child_takes_a_job_and_aborts() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let queue = SqliteQueue::open(SqliteOptions::new(folder), QueueOptions::default()).expect("opens");
    let claimed = claim(&queue);
    println!("\nclaimed {} {}", claimed.lease.job, claimed.lease.attempt);
    std::io::stdout().flush().expect("somebody listens");
    std::process::abort();
}

/// R2: every submission that was answered is there after kill -9 of the owner in a storm, and the file is sound.
#[test]
fn no_answered_submission_is_lost_to_a_kill() {
    let kills = std::env::var("STORM_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut accepted: HashSet<(String, String)> = HashSet::new();
    for round in 0..kills {
        let mut child = start("killed::child_submits_for_ever", folder.path());
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut until_kill = 20 + 37 * (round % 7);
        for line in output.lines() {
            let Ok(line) = line else { break };
            if let Some(answer) = line.strip_prefix("accepted ") {
                let (client, id) = answer.split_once(' ').expect("client and id");
                accepted.insert((format!("client-{client}"), id.to_owned()));
                until_kill -= 1;
                if until_kill == 0 {
                    child.kill().expect("it lives");
                    // The rest that was printed before the kill counts too: go on reading to the end.
                }
            }
        }
        child.wait().expect("it is ours");
        assert!(until_kill <= 0, "round {round}: the child ended by itself");
    }
    let file = Connection::open(folder.path().join("jobs.sqlite")).expect("opens");
    let sound: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checks");
    assert_eq!(sound, "ok");
    drop(file);
    let queue = open(folder.path());
    eprintln!("{} answered submissions, {kills} kills", accepted.len());
    for (client, id) in accepted {
        let id: JobId = id.parse().expect("an id");
        let record = wait(queue.get(&Principal::new(client), &id));
        assert_eq!(record.expect("an answered job is there").status, JobStatus::Queued);
    }
}

/// R6: a job that takes its process down every time is dead after three attempts, found as soon as the next owner starts.
#[test]
fn a_job_that_kills_its_process_is_dead_after_three_attempts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let queue = open(folder.path());
    let killer = submit(&queue, job());
    let others: Vec<JobId> = (0..5).map(|_| submit(&queue, job())).collect();
    drop(queue);
    for attempt in 1..=3 {
        let output =
            start("killed::child_takes_a_job_and_aborts", folder.path()).wait_with_output().expect("it runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success());
        assert!(printed.contains(&format!("claimed {killer} {attempt}")), "{printed}");
    }
    let queue = open(folder.path());
    let record = wait(queue.get(&ann(), &killer)).expect("there");
    assert_eq!((record.status, record.attempts_used), (JobStatus::Dead, 3));
    assert!(others.iter().all(|_| others.contains(&claim(&queue).lease.job)));
}

/// R2: a queue with ten thousand waiting jobs is ready within a second.
#[test]
fn ten_thousand_jobs_are_ready_within_a_second() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let queue = SqliteQueue::open(SqliteOptions::new(folder.path()), unbounded()).expect("opens");
    for _ in 0..10 {
        wait(queue.submit((0..1_000).map(|_| job()).collect())).expect("accepted");
    }
    drop(queue);
    // The best of three: other programs of the machine may take the processors away.
    let mut ready = Duration::MAX;
    for _ in 0..3 {
        let begun = Instant::now();
        let queue = SqliteQueue::open(SqliteOptions::new(folder.path()), unbounded()).expect("opens");
        assert_eq!(wait(queue.counts()).expect("counts").queued(), 10_000);
        ready = ready.min(begun.elapsed());
    }
    let queue = open(folder.path());
    let begun = Instant::now();
    let page = wait(queue.list(&ann(), ListQuery { limit: 200, ..ListQuery::default() })).expect("a page");
    eprintln!("ready after {ready:?}, a page of 200 in {:?}", begun.elapsed());
    assert_eq!((page.jobs.len(), page.jobs[199].queue_position), (200, Some(9_801)));
    assert!(ready < Duration::from_secs(1), "{ready:?}");
}
