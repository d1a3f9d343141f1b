//! Types of the OpenAI API (`/v1`), as its official clients read them: every nullable field of an answer is present.
//! Requests ignore unknown fields, as OpenAI does, and refuse known fields of a wrong type by name.

mod chat_answer;
mod chat_chunk;
mod chat_message;
mod chat_request;
mod completion;
mod error;
mod model;
mod sampling;
#[cfg(test)]
mod tests;
mod tokens;
mod tool;
mod usage;
mod video;
mod wire;

pub use chat_answer::{
    AnswerMessage, ChatChoice, ChatCompletion, ChatLogprobs, FinishReason, TokenLogprob, TopLogprob,
};
pub use chat_chunk::{ChatChunk, ChatChunkChoice, Delta, FunctionDelta, ToolCallDelta};
pub use chat_message::{ChatMessage, Content, ContentPart, ImageUrl, PartKind, Role};
pub use chat_request::{
    ChatRequest, JsonSchemaFormat, ResponseFormat, ResponseFormatKind, StreamOptions, StructuredOutputs,
};
pub use completion::{Completion, CompletionChoice, CompletionLogprobs, CompletionPrompt, CompletionRequest};
pub use error::{ErrorBody, ErrorObject};
pub use model::{Model, ModelKind, ModelList};
pub use sampling::{PromptTexts, Stop};
pub use tokens::{DetokenizeAnswer, DetokenizeRequest, TokenizeAnswer, TokenizeRequest};
pub use tool::{
    AllowedTools, CallKind, FunctionCall, FunctionDefinition, FunctionName, NamedTool, Tool, ToolCall,
    ToolChoice, ToolMode,
};
pub use usage::{CompletionTokensDetails, PromptTokensDetails, Usage};
pub use video::{Video, VideoDeleted, VideoError, VideoList, VideoStatus};
