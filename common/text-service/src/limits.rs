//! What is refused whatever the model.

/// Most answers to one prompt.
pub(crate) const MAX_ANSWERS: u32 = 16;
/// Most stop strings (OpenAI's limit).
pub(crate) const MAX_STOPS: usize = 4;
/// Longest stop string, characters.
pub(crate) const MAX_STOP_CHARACTERS: usize = 256;
/// Most stop tokens.
pub(crate) const MAX_STOP_TOKENS: usize = 64;
/// Most biased tokens.
pub(crate) const MAX_BIASES: usize = 1024;
/// Most alternatives with each token of a chat (OpenAI's limit).
pub(crate) const MAX_TOP_LOGPROBS: u32 = 20;
/// Most alternatives with each token of a completion (OpenAI's limit).
pub(crate) const MAX_LOGPROBS: u32 = 5;
/// Most prompts of one completion.
pub(crate) const MAX_PROMPTS: usize = 128;
/// Most pictures of one request.
pub(crate) const MAX_PICTURES: usize = 16;
/// Longest picture file, bytes.
pub(crate) const MAX_PICTURE_BYTES: usize = 10 << 20;
/// Most choices of a guided answer.
pub(crate) const MAX_CHOICES: usize = 512;
/// Longest name that a client gives a generation.
pub(crate) const MAX_NAME: usize = 128;
/// Tokens of a completion unless told (OpenAI's).
pub(crate) const COMPLETION_TOKENS: u64 = 16;
/// Tokens of a stream unless told (the specification's).
pub(crate) const STREAM_TOKENS: u64 = 512;
