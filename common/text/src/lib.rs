//! The text engine: tokenizer, chat templates, constraints, scheduling, sampling and streaming for language models.
//!
//! The model itself is behind [`videosdgx_decoder_api::Decoder`]. This crate does not link libtorch, so it is built in seconds and
//! tested with a small fake decoder.
//!
//! - [`TextEngine`] batches the requests of many callers; [`streaming`] runs many prompts on it with bounded concurrency.
//! - [`TextAssets`] reads tokenizer, template and defaults of a checkpoint.
//! - [`ChatTemplate`], [`OutputParser`] and [`ConstraintCompiler`] convert between messages, tool calls, schemas and tokens.
//! - [`image`] preprocesses images for vision models.
//! - [`controllers`] and [`telemetry`] adapt and measure the engine.

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
pub use constraint::{
    COMPILE_LIMIT, CompileBudget, CompileError, CompilePool, CompilePoolConfig, Compiling,
    ConstraintCompiler, ConstraintError, Enforcement, Matcher, PreparedConstraint, guided_schema, regex_rule,
    rule_of,
};
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
