//! The text engine: everything between a prompt and a stream of tokens but the arithmetic, which a [`Decoder`] does. It
//! never links libtorch, so that scheduling, sampling and parsing are built in seconds and tested with a decoder of a few lines.

mod assets;
mod cache;
mod constraint;
pub mod controllers;
mod detokenizer;
mod engine;
mod event;
pub mod image;
mod reasoning;
mod request;
mod sampler;
mod scheduler;
pub mod streaming;
pub mod telemetry;
mod template;
#[cfg(test)]
mod testing;
mod tokenizer;
mod tools;

pub use assets::{AssetsError, CheckpointLanguage, GenerationDefaults, TextAssets};
pub use constraint::{ConstraintCompiler, ConstraintError, Matcher};
pub use detokenizer::Detokenizer;
pub use engine::{
    CacheUsage, EngineConfig, EngineHooks, EngineSnapshot, KvCacheSize, Language, PrefixSharing,
    StreamOptions, SubmitError, TextDecoder, TextEngine, TextPiece, TokenMask, TokenMatcher, TokenStream,
};
pub use event::{
    Choice, Completed, ErrorCode, FinishReason, StreamError, StreamEvent, StreamSummary, TokenEvent,
    TokenLogprob, Usage,
};
pub use request::{Constraint, GenerationRequest, Prompt, SamplingParams, StopConditions};
pub use template::{ChatTemplate, RenderedPrompt, TemplateError, TemplateInput, expand_images};
pub use tokenizer::{AllowSpecial, GgufVocabulary, MAX_INPUT_BYTES, ShowSpecial, Tokenizer, TokenizerError};
pub use tools::{
    OutputDelta, OutputFormat, OutputParser, Tool, ToolCallDelta, ToolChoice, ToolError, ToolFormat, ToolSet,
    tool_constraint,
};
