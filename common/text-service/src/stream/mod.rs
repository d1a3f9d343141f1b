//! The streaming protocol whatever carries it: from a `generate` to a task, from pieces to events.

pub(crate) mod events;
pub(crate) mod lines;
pub(crate) mod plan;
