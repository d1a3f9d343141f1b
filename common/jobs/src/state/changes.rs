//! Changes that a driver has to make durable, and the notifications that follow.

use std::collections::BTreeSet;

use videosdgx_api::JobEvent;

use crate::{Forgotten, JobOutput, Signal};

/// Everything that changed since the changes were last taken. Jobs are named by their numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Jobs whose record is to be written as the machine has it now (new ones among them).
    pub touched: BTreeSet<u64>,
    /// Events to be stored, and sent to subscribers once they are stored; in order.
    pub events: Vec<(u64, JobEvent)>,
    /// Warnings to be added, each text once per job.
    pub warnings: Vec<(u64, String)>,
    /// Results to be stored.
    pub outputs: Vec<(u64, JobOutput)>,
    /// Jobs to be removed with all their rows.
    pub forgotten: Vec<(u64, Forgotten)>,
    /// Signals to be sent to workers once the changes are durable, by (job, attempt).
    pub signals: Vec<((u64, u32), Signal)>,
    /// The totals changed.
    pub totals: bool,
}

impl Changes {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
            && self.events.is_empty()
            && self.warnings.is_empty()
            && self.outputs.is_empty()
            && self.forgotten.is_empty()
            && !self.totals
    }
}
