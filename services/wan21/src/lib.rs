//! Wan 2.1: its transformer and its pipelines.

pub mod pipeline;
pub mod transformer;
