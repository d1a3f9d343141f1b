//! Text completions: what is asked, and the answer in one piece or in chunks.

pub(crate) mod answer;
pub(crate) mod chunks;
pub(crate) mod plan;
