//! Checks of submissions.

use std::collections::HashSet;

use videosdgx_api::{JobId, JobStatus};

use super::{Open, support::*};
use crate::{Principal, QueueConfig, QueueError, wait};

/// A submitted job can be read with its submitted values and its position in the queue.
pub fn submitted_job_is_found(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let mut sent = with_priority(job(&ann()), 7);
    sent.warnings = vec!["the word `zebra` is unknown".to_owned()];
    let answers = wait(queue.submit(vec![sent.clone()])).expect("accepted");
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (&answers[0].id, answers[0].status, answers[0].existing),
        (&sent.id, JobStatus::Queued, false)
    );
    assert_eq!(answers[0].queue_position, 1);

    let record = get(&queue, &ann(), &sent.id);
    assert_eq!((record.status, record.priority, record.percent), (JobStatus::Queued, sent.priority, 0));
    assert_eq!((record.body, record.warnings), (sent.body, sent.warnings));
    assert_eq!((record.attempt, record.attempts_used, record.queue_position), (0, 0, Some(1)));
    assert!(record.started_at.is_none() && record.finished_at.is_none() && record.output.is_none());

    let second = submit(&queue, job(&ann()));
    assert_eq!(get(&queue, &ann(), &second).queue_position, Some(2));
    assert_eq!(wait(queue.find(&second)).expect("found").map(|record| record.id), Some(second));
    let nobody: JobId = "test-000000000000".parse().expect("an id");
    assert_eq!(wait(queue.find(&nobody)), Ok(None));
}

/// A batch is accepted completely or not at all.
pub fn batches_are_all_or_none(open: Open<'_>) {
    let queue = open(QueueConfig { max_queued: 7, ..QueueConfig::default() }.into());
    let four: Vec<_> = (0..4).map(|_| job(&ann())).collect();
    let first = four[0].id.clone();
    assert!(
        matches!(wait(queue.submit(four)), Err(QueueError::QueueFull { limit: 3, .. })),
        "its share is 3"
    );
    assert_eq!(wait(queue.get(&ann(), &first)), Err(QueueError::NotFound));

    let twice = job(&ann());
    let again = wait(queue.submit(vec![twice.clone(), twice.clone()]));
    assert_eq!(again, Err(QueueError::DuplicateId { job: twice.id.clone() }));
    assert_eq!(wait(queue.counts()).expect("counts").queued(), 0);

    let three: Vec<_> = (0..3).map(|_| job(&ann())).collect();
    let ids: Vec<_> = three.iter().map(|submission| submission.id.clone()).collect();
    let answers = wait(queue.submit(three)).expect("three fit");
    assert_eq!(answers.iter().map(|answer| answer.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(answers.iter().map(|answer| answer.queue_position).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(wait(queue.submit(Vec::new())), Ok(Vec::new()));
}

/// Same key and body: the same job, also when it has ended. Another body: a conflict. Keys belong to a principal.
pub fn idempotency_keys_make_one_job(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let first = submit(&queue, with_key(job(&ann()), "k", 1));
    let again = wait(queue.submit(vec![with_key(job(&ann()), "k", 1)])).expect("the same job");
    assert_eq!((&again[0].id, again[0].existing), (&first, true));
    let conflict = wait(queue.submit(vec![job(&ann()), with_key(job(&ann()), "k", 2)]));
    assert_eq!(conflict, Err(QueueError::IdempotencyConflict { job: first.clone() }));
    let other = wait(queue.submit(vec![with_key(job(&bob()), "k", 2)])).expect("bob's own");
    assert!(!other[0].existing);
    assert_eq!(wait(queue.counts()).expect("counts").queued(), 2);

    let claimed = claim(&queue);
    assert_eq!(claimed.lease.job, first);
    complete(&queue, &claimed);
    let after = wait(queue.submit(vec![with_key(job(&ann()), "k", 1)])).expect("the same job");
    assert_eq!((&after[0].id, after[0].status, after[0].queue_position), (&first, JobStatus::Completed, 0));

    let pair = vec![with_key(job(&ann()), "p", 1), with_key(job(&ann()), "p", 1)];
    let pair = wait(queue.submit(pair)).expect("one job");
    assert_eq!((pair[0].id == pair[1].id, pair[0].existing, pair[1].existing), (true, false, true));
}

/// 200 clients at once with one key make one job.
pub fn many_clients_with_one_key_make_one_job(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let ids: Vec<JobId> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..200).map(|_| scope.spawn(|| submit(&queue, with_key(job(&ann()), "one", 9)))).collect();
        clients.into_iter().map(|client| client.join().expect("no client panics")).collect()
    });
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 1);
    assert_eq!(wait(queue.counts()).expect("counts").queued(), 1);
    assert_eq!(wait(queue.totals()).expect("totals").submitted, 1);
}

/// The attachment of a request is part of the claim only, byte for byte.
pub fn attachments_come_with_the_claim_only(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let image: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let mut sent = job(&Principal::new("naïve “name” \u{1f600}'; DROP TABLE jobs; --"));
    sent.attachment = Some(image.clone());
    let owner = sent.principal.clone();
    let id = submit(&queue, sent.clone());
    let claimed = claim(&queue);
    assert_eq!((claimed.lease.job, claimed.principal), (id.clone(), owner.clone()));
    assert_eq!((claimed.body, claimed.attachment == Some(image)), (sent.body.clone(), true));
    assert_eq!(get(&queue, &owner, &id).body, sent.body);
}
