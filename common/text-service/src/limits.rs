//! Limits of requests that do not depend on the model.

/// Maximum number of answers to one prompt.
pub(crate) const MAX_ANSWERS: u32 = 16;
/// Maximum number of stop strings (OpenAI's limit).
pub(crate) const MAX_STOPS: usize = 4;
/// Maximum length of a stop string in characters.
pub(crate) const MAX_STOP_CHARACTERS: usize = 256;
/// Maximum number of stop tokens.
pub(crate) const MAX_STOP_TOKENS: usize = 64;
/// Maximum number of alternatives per token of a chat (OpenAI's limit).
pub(crate) const MAX_TOP_LOGPROBS: u32 = 20;
/// Maximum number of alternatives per token of a completion (OpenAI's limit).
pub(crate) const MAX_LOGPROBS: u32 = 5;
/// Maximum number of prompts of one request.
pub(crate) const MAX_PROMPTS: usize = 128;
/// Maximum number of pictures of one request.
pub(crate) const MAX_PICTURES: usize = 16;
/// Maximum size of a picture file in bytes.
pub(crate) const MAX_PICTURE_BYTES: usize = 10 << 20;
/// Maximum number of choices of a constrained answer.
pub(crate) const MAX_CHOICES: usize = 512;
/// Maximum length of a `request_id` in bytes.
pub(crate) const MAX_REQUEST_ID: usize = 128;
/// Default output limit of a completion in tokens (OpenAI's).
pub(crate) const COMPLETION_TOKENS: u64 = 16;
/// Default output limit of a stream in tokens.
pub(crate) const STREAM_TOKENS: u64 = 512;
