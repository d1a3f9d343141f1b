//! Test support shared by the crates of this workspace: an HTTP client whose failures are panics, tokens of a key folder,
//! server-sent events, and captured log output. Only for `[dev-dependencies]` and the black-box tests.
//!
//! ```no_run
//! # async fn example() {
//! use videosdgx_testing::{TestClient, mint_token};
//!
//! let token = mint_token("state/auth".as_ref(), "ada", "generate read");
//! let client = TestClient::new("http://127.0.0.1:8002", token);
//! let job = client.submit_prompt("a red circle").await;
//! assert_eq!(client.finished(&job).await["status"], "completed");
//! # }
//! ```

mod client;
mod events;
mod jobs;
mod logs;
#[cfg(feature = "openai")]
mod openai;
mod response;
mod tokens;

pub use client::TestClient;
pub use events::{Event, parse_events};
pub use logs::LogCapture;
#[cfg(feature = "openai")]
pub use openai::OpenAiAnswer;
pub use response::TestResponse;
pub use tokens::mint_token;
