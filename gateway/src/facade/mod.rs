//! OpenAI's API over the services: `/v1/models`, `/v1/videos`.

pub(crate) mod create;
mod create_body;
pub(crate) mod models;
mod shape;
pub(crate) mod videos;
