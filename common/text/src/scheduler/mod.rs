//! The scheduler: decides which sequences compute which tokens in the next step. A state machine without threads or clocks.
//!
//! A sequence is waiting, running, or paused because its reader is slow. It runs when a slot is free and its tokens fit into the
//! cache. Each step first takes the newest token of every running sequence and then chunks of prompts (continuous batching with
//! chunked prefill). A preempted sequence waits again and is recomputed later, using the blocks that are still cached.
//!
//! Order within a principal: the *rank* of a sequence is its arrival time minus [`SchedulerConfig::ageing`] per level of priority.
//! A waiting sequence therefore precedes all that arrive more than nine such intervals after it, whatever their priority.
//!
//! Order between principals: by virtual token counters (see [`shares`]), in the queue, for slots, for the prompt tokens of a step
//! and for blocks. Priority is the weight there. A principal that waits without anything running rises by one level per interval
//! of ageing, so waiting times are bounded here, too.

mod config;
#[cfg(test)]
mod fair_simulation;
mod plan;
mod sequence;
mod shares;
#[cfg(test)]
mod simulation;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use config::{SchedulerConfig, SequenceSpec, StepLimits};
pub(crate) use plan::{Growth, Plan, PlannedSegment};
pub(crate) use sequence::SeqId;
pub(crate) use state::{EndCause, EndedSequence, QueueFull, Scheduler, SegmentDone};
