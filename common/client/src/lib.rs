//! Typed client of the gateway, and the library behind the `videosdgx` command.
//!
//! ```no_run
//! # async fn example() -> Result<(), videosdgx_client::ClientError> {
//! use videosdgx_api::GenerateRequest;
//! use videosdgx_client::Client;
//!
//! let token = std::env::var("VIDEOSDGX_TOKEN").ok().map(Into::into);
//! let client = Client::new("http://127.0.0.1:8080", token)?;
//! let request = GenerateRequest { prompt: "a red circle moving right".into(), ..Default::default() };
//! let accepted = client.generate("wan21", &request, None).await?;
//! let job = client.follow(&accepted.job_id, |progress| println!("{} %", progress.percent)).await?;
//! client.download(&job.job_id, "circle.mp4".as_ref(), |_, _| {}).await?;
//!
//! use videosdgx_api::openai::{ChatMessage, ChatRequest, Role};
//! let messages = vec![ChatMessage::text(Role::User, "What is the capital of France?")];
//! let mut answer = client.chat_stream(&ChatRequest { messages, ..Default::default() }).await?;
//! while let Some(chunk) = answer.next().await? {
//!     for choice in chunk.choices {
//!         print!("{}", choice.delta.content.flatten().unwrap_or_default());
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! No error, `Debug` output or log line of this crate contains a token, a signed URL or a key.

mod chat;
mod client;
mod credentials;
mod download;
mod error;
mod follow;
pub mod health;
pub mod pull;
mod sse;

pub use chat::ChatStream;
pub use client::{Client, DEFAULT_URL, JobFilter};
pub use credentials::{CredentialsError, find_token, mint};
pub use error::ClientError;
pub use follow::Progress;
pub use secrecy::SecretString;
