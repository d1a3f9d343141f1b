//! OpenAI's API over the services: `/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/v1/videos`.

pub(crate) mod completions;
pub(crate) mod create;
mod create_body;
mod model_lookup;
pub(crate) mod models;
mod shape;
pub(crate) mod videos;
