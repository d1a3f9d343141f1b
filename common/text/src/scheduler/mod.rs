//! The scheduler: decides which sequences compute which tokens in the next step. A state machine without threads or clocks.
//!
//! A sequence is waiting, running, or paused because its reader is slow. It runs when a slot is free and its tokens fit into the
//! cache. Each step first takes the newest token of every running sequence and then chunks of prompts (continuous batching with
//! chunked prefill). A preempted sequence waits again and is recomputed later, using the blocks that are still cached.
//!
//! Order: the *rank* of a sequence is its arrival time minus [`SchedulerConfig::ageing`] per level of priority. A waiting
//! sequence therefore precedes all that arrive more than nine such intervals after it, whatever their priority, so waiting times
//! are bounded. Between principals, recent usage (slot time with exponential decay) delays further requests.

mod config;
mod fairness;
mod plan;
mod sequence;
#[cfg(test)]
mod simulation;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use config::{SchedulerConfig, SequenceSpec, StepLimits};
pub(crate) use plan::{Growth, Plan, PlannedSegment};
pub(crate) use sequence::SeqId;
pub(crate) use state::{EndCause, EndedSequence, QueueFull, Scheduler, SegmentDone};
