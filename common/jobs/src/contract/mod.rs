//! The test suite that every driver must pass. In a driver's tests:
//!
//! ```ignore
//! videosdgx_jobs::contract_tests!(|options| Fixture::new(MyQueue::empty(options), ()));
//! ```
//!
//! Each check opens an empty queue with the settings that it needs, and panics with a description of what is wrong.

mod bounds;
mod claims;
mod endings;
mod events;
mod listings;
mod submissions;
mod support;

pub use bounds::{
    full_queue_says_when_to_come_back, greedy_principal_gets_its_share, low_priorities_do_not_starve,
    no_principal_fills_the_queue,
};
pub use claims::{
    claims_are_in_order, closed_claims_get_nothing, dead_after_the_last_attempt,
    dropped_claim_claims_nothing, lost_lease_is_given_to_another, renewed_lease_is_kept,
    waiting_claim_is_woken,
};
pub use endings::{
    cancel_of_a_running_job_reaches_its_worker, cancel_of_a_waiting_job_is_at_once,
    completed_job_has_its_output, failures_are_tried_again_up_to_the_cap, final_states_are_final,
    forgotten_jobs_are_gone, forgotten_jobs_are_reported, release_uses_up_no_attempt,
    released_job_says_what_it_waits_for,
};
pub use events::{events_are_numbered_and_resumed, progress_goes_forward, streams_end_with_the_job};
pub use listings::{
    counts_and_totals_add_up, lists_are_newest_first_in_pages, lists_begin_anywhere_in_both_orders,
    other_peoples_jobs_are_not_found,
};
pub use submissions::{
    attachments_come_with_the_claim_only, batches_are_all_or_none, idempotency_keys_make_one_job,
    many_clients_with_one_key_make_one_job, submitted_job_is_found,
};

use std::{any::Any, fmt, ops::Deref, sync::Arc};

use crate::{Queue, QueueOptions};

/// An empty queue, and the resources that must exist as long as it does (a temporary folder, a server).
pub struct Fixture {
    queue: Arc<dyn Queue>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// A queue and what it needs (a temporary folder), which is dropped after the queue.
    pub fn new(queue: impl Queue, keep: impl Any + Send + Sync) -> Self {
        Self { queue: Arc::new(queue), _keep: Box::new(keep) }
    }
}

impl Deref for Fixture {
    type Target = Arc<dyn Queue>;

    fn deref(&self) -> &Arc<dyn Queue> {
        &self.queue
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fixture")
    }
}

/// Opens an empty queue.
pub type Open<'a> = &'a dyn Fn(QueueOptions) -> Fixture;

/// Makes one test of each check of the contract; takes a closure from [`QueueOptions`](crate::QueueOptions) to a [`contract::Fixture`](crate::contract::Fixture).
#[macro_export]
macro_rules! contract_tests {
    ($open:expr) => {
        $crate::contract_tests!(@each $open;
            no_principal_fills_the_queue
            full_queue_says_when_to_come_back greedy_principal_gets_its_share low_priorities_do_not_starve
            claims_are_in_order closed_claims_get_nothing dead_after_the_last_attempt dropped_claim_claims_nothing
            lost_lease_is_given_to_another renewed_lease_is_kept waiting_claim_is_woken
            cancel_of_a_running_job_reaches_its_worker cancel_of_a_waiting_job_is_at_once completed_job_has_its_output
            failures_are_tried_again_up_to_the_cap final_states_are_final forgotten_jobs_are_gone
            forgotten_jobs_are_reported
            release_uses_up_no_attempt released_job_says_what_it_waits_for
            events_are_numbered_and_resumed progress_goes_forward streams_end_with_the_job
            counts_and_totals_add_up lists_are_newest_first_in_pages lists_begin_anywhere_in_both_orders other_peoples_jobs_are_not_found
            attachments_come_with_the_claim_only batches_are_all_or_none idempotency_keys_make_one_job
            many_clients_with_one_key_make_one_job submitted_job_is_found
        );
    };
    (@each $open:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let open = $open;
                $crate::contract::$check(&open);
            }
        )*
    };
}
