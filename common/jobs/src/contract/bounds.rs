//! Checks of bounds, ageing and fairness.

use std::{collections::HashMap, time::Duration};

use videosdgx_api::JobStatus;

use super::{Open, support::*};
use crate::{ListQuery, Principal, QueueConfig, QueueError, QueueLimit, wait};

/// A full queue refuses a submission and names the limit and the time of a retry; once a job has left, it
/// accepts the next one.
pub fn full_queue_says_when_to_come_back(open: Open<'_>) {
    let queue =
        open(QueueConfig { max_queued: 5, max_queued_per_principal: 2, ..QueueConfig::default() }.into());
    for _ in 0..2 {
        submit(&queue, job(&ann()));
    }
    let refused = |principal: &Principal| match wait(queue.submit(vec![job(principal)])) {
        Err(QueueError::QueueFull { scope, limit, retry_after }) => {
            assert!(retry_after >= Duration::from_secs(1));
            (scope, limit)
        }
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(refused(&ann()), (QueueLimit::Principal, 2));
    for name in ["bob", "carol", "dave"] {
        submit(&queue, job(&Principal::new(name)));
    }
    assert_eq!(refused(&bob()), (QueueLimit::Queue, 5));
    drop(claim(&queue));
    submit(&queue, job(&Principal::new("erin")));
}

/// However small the queue, one principal that submits as much as it can leaves places for others, and `n` principals have
/// equal shares.
pub fn no_principal_fills_the_queue(open: Open<'_>) {
    let fill = |queue: &super::Fixture, principal: &Principal| {
        let mut accepted = 0;
        loop {
            match wait(queue.submit(vec![job(principal)])) {
                Ok(_) => accepted += 1,
                Err(QueueError::QueueFull { scope, .. }) => return (accepted, scope),
                Err(other) => panic!("{other}"),
            }
        }
    };
    for capacity in [2, 3, 8, 30] {
        let queue = open(QueueConfig { max_queued: capacity, ..QueueConfig::default() }.into());
        assert_eq!(fill(&queue, &ann()), ((capacity / 2).max(1), QueueLimit::Principal), "{capacity}");
        let (bobs, _) = fill(&queue, &bob());
        assert!(bobs >= 1, "{capacity}: nothing was left");
        // As jobs of the first leave, others take the places until the shares are equal.
        for _ in 0..3 * capacity {
            complete(&queue, &claim(&queue));
            fill(&queue, &bob());
            fill(&queue, &ann());
        }
        let waiting = |principal: &Principal| {
            let query = ListQuery { statuses: vec![JobStatus::Queued], limit: 200, ..ListQuery::default() };
            wait(queue.list(principal, query)).expect("a page").jobs.len()
        };
        let (anns, bobs) = (waiting(&ann()), waiting(&bob()));
        assert!(
            anns.abs_diff(bobs) <= 1 && anns.min(bobs) >= (capacity / 3).max(1),
            "{capacity}: {anns} {bobs}"
        );
        if capacity > 2 {
            submit(&queue, job(&Principal::new("carol")));
        }
    }
}

/// Ten principals, one with a hundred jobs: each gets its turn before any principal gets a second.
pub fn greedy_principal_gets_its_share(open: Open<'_>) {
    let queue = open(QueueConfig::default().into());
    let greedy = Principal::new("greedy");
    let flood: Vec<_> = (0..100).map(|_| job(&greedy)).collect();
    assert!(wait(queue.submit(flood)).is_ok());
    let others: Vec<_> = (0..9).map(|n| Principal::new(format!("modest-{n}"))).collect();
    for principal in others.iter().cycle().take(9 * 5) {
        submit(&queue, job(principal));
    }
    let mut served: HashMap<Principal, usize> = HashMap::new();
    for turn in 1..=50 {
        let claimed = claim(&queue);
        *served.entry(claimed.principal.clone()).or_default() += 1;
        complete(&queue, &claimed);
        if turn == 20 {
            assert!(served[&greedy] <= 3, "{served:?}");
            assert!(others.iter().all(|principal| served.get(principal) >= Some(&1)), "{served:?}");
        }
    }
    assert!(served[&greedy] <= 6, "{served:?}");
    assert!(others.iter().all(|principal| served.get(principal) == Some(&5)), "{served:?}");
}

/// With one ageing step of 20 ms, a job of priority 0 is claimed before jobs of priority 9 that are submitted
/// 180 ms later.
pub fn low_priorities_do_not_starve(open: Open<'_>) {
    let queue = open(QueueConfig { ageing_step: Duration::from_millis(20), ..QueueConfig::default() }.into());
    for owner in [ann(), bob()] {
        let low = submit(&queue, with_priority(job(&ann()), 0));
        let mut late = 0;
        let begun = std::time::Instant::now();
        loop {
            // A new urgent job is always waiting as well.
            submit(&queue, with_priority(job(&owner), 9));
            let claimed = claim(&queue);
            complete(&queue, &claimed);
            if claimed.lease.job == low {
                break;
            }
            if begun.elapsed() > Duration::from_millis(9 * 20 + 20) {
                late += 1;
            }
            // Jobs submitted before the bound may be claimed first; later ones may not.
            assert!(late <= 400, "starved for {:?}", begun.elapsed());
        }
        while let Some(claimed) = wait(queue.claim("rest", Duration::ZERO)).expect("claims work") {
            complete(&queue, &claimed);
        }
    }
}
