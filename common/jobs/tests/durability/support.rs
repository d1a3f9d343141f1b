//! Short names for what the tests do all the time.

use std::path::Path;

use videosdgx_api::{JobId, Priority};
use videosdgx_jobs::{
    Claim, IdempotencyKey, JobOutput, Principal, Queue, QueueOptions, Submission,
    sqlite::{SqliteOptions, SqliteQueue},
    wait,
};

pub(crate) fn ann() -> Principal {
    Principal::new("ann")
}

pub(crate) fn job() -> Submission {
    Submission {
        id: JobId::random("test").expect("a valid name"),
        principal: ann(),
        priority: Priority::default(),
        body: r#"{"prompt":"a red circle moving right on a black background"}"#.to_owned(),
        attachment: None,
        prompt_characters: 46,
        idempotency: None,
        warnings: Vec::new(),
    }
}

pub(crate) fn with_key(key: &str) -> Submission {
    Submission { idempotency: Some(IdempotencyKey { key: key.to_owned(), body_hash: [7; 32] }), ..job() }
}

pub(crate) fn open(folder: &Path) -> SqliteQueue {
    SqliteQueue::open(SqliteOptions::new(folder), QueueOptions::default()).expect("the queue opens")
}

pub(crate) fn submit(queue: &SqliteQueue, submission: Submission) -> JobId {
    let answers = wait(queue.submit(vec![submission])).expect("accepted");
    answers.into_iter().next().expect("one answer").id
}

pub(crate) fn claim(queue: &SqliteQueue) -> Claim {
    let claimed = wait(queue.claim("worker", std::time::Duration::from_secs(20)));
    claimed.expect("claims work").expect("there is a job")
}

pub(crate) fn complete(queue: &SqliteQueue, claim: &Claim) {
    let output = JobOutput { path: format!("{}.mp4", claim.lease.job), bytes: 9, used: "{}".to_owned() };
    wait(queue.complete(&claim.lease, output)).expect("the result is taken");
}
