//! Which sequences compute what in the next step: a state machine without threads, clocks or arithmetic.
//!
//! A sequence waits, runs, or is paused because its reader is slow. It runs when there is a place and its tokens fit into the
//! cache; each step takes the newest token of every running sequence first and then chunks of prompts, mixed. A sequence
//! that is preempted waits again and is computed anew later, most of it from the cache if that still has it.
//!
//! Order: a sequence's *rank* is its arrival, moved earlier by [`SchedulerConfig::ageing`] for each step of priority. So a
//! waiting sequence overtakes all that came later than nine such times after it, whatever their priority: waits are bounded.
//! Between principals, what one has used lately (seconds of places, fading over ten) moves its requests later.

mod config;
mod fairness;
mod plan;
mod sequence;
#[cfg(test)]
mod simulation;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use config::{Limits, SchedulerConfig, SequenceSpec};
pub(crate) use plan::{Growth, Plan, PlannedSegment};
pub(crate) use sequence::SeqId;
pub(crate) use state::{EndCause, EndedSequence, QueueFull, Scheduler, SegmentDone};
