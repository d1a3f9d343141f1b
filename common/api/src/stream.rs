//! The streaming protocol: messages of the WebSocket `/stream`, and lines of `POST /stream/generate`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::openai::{
    ChatMessage, FinishReason, PromptTexts, ResponseFormat, Stop, StructuredOutputs, Tool, ToolChoice,
};

/// A message from the client on the WebSocket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Start a generation.
    Generate(Box<StreamGenerate>),
    /// Stop a generation.
    Cancel(StreamCancel),
    /// Resume a stream after a lost connection.
    Resume(StreamResume),
}

/// One generation: a prompt to continue, or messages to answer. Unknown fields are refused, because they would have no
/// effect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamGenerate {
    /// `generate`; required in a WebSocket message, optional in a line of NDJSON.
    #[serde(default, rename = "type", skip_serializing_if = "GenerateType::is_written_by_the_message")]
    pub kind: GenerateType,
    /// Id that the service repeats in every message of this generation; required when several run on one connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub request_id: Option<String>,
    /// Text to continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Conversation to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::bounded::optional_list::<{ crate::MAX_MESSAGES }, _, _>")]
    pub messages: Option<Vec<ChatMessage>>,
    /// System prompt before the messages, or before the prompt, which then becomes a user message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Largest number of output tokens. Default: 512.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "max_new_tokens")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// Sampling parameters, output constraints and tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<StreamParams>,
    /// Whether the stream can be resumed for a while after the connection is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable: Option<bool>,
    /// Kind of client: `desktop`, `mobile` or `battery`. The latter two receive fewer, larger messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ClientProfile>,
}

/// The message type `generate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GenerateType {
    /// `generate`, the only value.
    #[default]
    Generate,
}

impl GenerateType {
    /// Always true: [`ClientMessage`] writes the type.
    fn is_written_by_the_message(&self) -> bool {
        match self {
            Self::Generate => true,
        }
    }
}

/// Body of `POST /stream/generate`: one or several prompts with the same settings, or a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamBatch {
    /// Text to continue, or several.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "prompts")]
    pub prompt: Option<PromptTexts>,
    /// Conversation to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::bounded::optional_list::<{ crate::MAX_MESSAGES }, _, _>")]
    pub messages: Option<Vec<ChatMessage>>,
    /// System prompt before the messages, or before each prompt, which then becomes a user message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Largest number of tokens of each output. Default: 512.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "max_new_tokens")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// Sampling parameters, output constraints and tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<StreamParams>,
}

/// Sampling parameters, output constraints and tools, named as in `/v1/chat/completions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamParams {
    /// Sampling temperature, 0 (always the most likely token) to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// Nucleus sampling: only the most likely tokens that together reach this probability; above 0, to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Only the `k` most likely tokens; 0 or -1: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1)]
    pub top_k: Option<i64>,
    /// Only tokens at least this fraction as likely as the most likely one, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f64>,
    /// Above 1: makes tokens of prompt and output less likely; above 0, to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 10)]
    pub repetition_penalty: Option<f64>,
    /// Makes tokens that are already in the output less likely, -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f64>,
    /// The same in proportion to their number, -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f64>,
    /// Added to the logits of tokens, by token id, -100 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::bounded::optional_map::<{ crate::MAX_BIASES }, _, _>")]
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// Seed of the sampler: the same seed gives the same text. Default: random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Stop strings: at most 4 texts that end the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// At most 64 token ids that end the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 64)]
    pub stop_token_ids: Option<Vec<u32>>,
    /// Whether generation continues after the end-of-sequence token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// Priority, 0 (least urgent) to 9. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<i64>,
    /// Deadline in seconds, after which the generation is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 86400)]
    pub timeout: Option<f64>,
    /// Output constraint: text, any JSON object, or JSON that matches a schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// Output constraint: a JSON schema, a regular expression, a list of texts, or a grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_outputs: Option<StructuredOutputs>,
    /// Functions that the model may call; only with messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 128)]
    pub tools: Option<Vec<Tool>>,
    /// Whether the model calls a tool, and which; only with messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Variables for the chat template; only with messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Kind of client, which decides how tokens are grouped into messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientProfile {
    /// One message per token.
    #[default]
    Desktop,
    /// Fewer, larger messages.
    Mobile,
    /// The fewest messages, so that the device can sleep longest.
    Battery,
}

/// Stops the generation with this `request_id` or `stream_id`, or all of the connection when both are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamCancel {
    /// `request_id` of the `generate` message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// `stream_id` of the `started` message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
}

/// Resumes a stream of the same principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamResume {
    /// `stream_id` of the `started` message.
    pub stream_id: String,
    /// `position` of the last token received; absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// New `request_id` on this connection. Default: the earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub request_id: Option<String>,
}

/// A message from the service: on the WebSocket, as a line of NDJSON, or as the data of a server-sent event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerMessage {
    /// `request_id` of the client; absent if it sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Number of the prompt in a body of `/stream/generate`, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The event.
    #[serde(flatten)]
    pub event: ServerEvent,
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerEvent {
    /// A generation with a `request_id`, or a resumable one, was accepted.
    Started {
        /// Id for `resume` and `cancel`.
        stream_id: String,
    },
    /// One token, or several for a slow client.
    Token {
        /// The token.
        token: StreamToken,
    },
    /// A tool call began or continues.
    ToolCall {
        /// The tool call, or the next part of it.
        tool_call: StreamToolCall,
    },
    /// An error.
    Error {
        /// The error.
        error: StreamProblem,
    },
    /// The generation has ended.
    Complete {
        /// Statistics of the generation.
        summary: Summary,
        /// Why it ended; null when an error or a `cancel` ended it.
        finish_reason: Option<FinishReason>,
        /// Whether the client cancelled it.
        cancelled: bool,
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Prompt tokens found in the prefix cache.
        cached_tokens: u64,
    },
}

/// A token, or several for a slow client.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StreamToken {
    /// Token id; of several tokens, the last.
    pub id: u32,
    /// Text that it adds; empty while a character is incomplete.
    pub text: String,
    /// Position in the output, from 0; of several tokens, the last.
    pub position: u64,
    /// Milliseconds since the previous token; of several tokens, the mean.
    pub latency_ms: f64,
    /// Number of tokens; absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Reasoning text, in answers to messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

/// A tool call, or the next part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamToolCall {
    /// Number of the call in the answer, from 0.
    pub index: u64,
    /// Id of the call, in its first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of the function, in the call's first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Next part of the arguments' JSON.
    pub arguments: String,
    /// Position of the token that it belongs to.
    pub position: u64,
}

/// An error in a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StreamProblem {
    /// Stable error code.
    pub code: String,
    /// Message for people.
    pub message: String,
    /// Whether the stream continues.
    pub recoverable: bool,
    /// The invalid field of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Number of the invalid line of an NDJSON body, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Seconds to wait before a retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

/// Statistics of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// Output tokens.
    pub total_tokens: u64,
    /// Seconds from the request to the end.
    pub session_duration_sec: f64,
    /// Milliseconds from the request to the first token; null if there was none.
    pub time_to_first_token_ms: Option<f64>,
    /// Mean time between tokens in milliseconds.
    pub average_token_latency_ms: f64,
    /// 95th percentile of the time between tokens in milliseconds.
    pub p95_token_latency_ms: f64,
    /// Tokens per second of generation.
    pub average_throughput: f64,
    /// Tokens per second from the request to the end.
    pub end_to_end_throughput: f64,
    /// Peak resident memory of the process meanwhile, in MB.
    pub max_memory_usage_mb: f64,
    /// Number of errors, including recovered ones.
    pub error_count: u64,
    /// Errors per token.
    pub error_rate: f64,
    /// Most frequent number of sequences in its steps.
    pub most_common_batch_size: u64,
}
