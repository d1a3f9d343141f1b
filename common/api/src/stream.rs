//! The streaming protocol: messages of the WebSocket `/stream`, and lines of `POST /stream/generate`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::openai::{
    ChatMessage, FinishReason, PromptTexts, ResponseFormat, Stop, StructuredOutputs, Tool, ToolChoice,
};

/// What a client says on the WebSocket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Generate something.
    Generate(Box<StreamGenerate>),
    /// Stop generating.
    Cancel(StreamCancel),
    /// Go on with a stream after a lost connection.
    Resume(StreamResume),
}

/// One generation: a prompt, which is gone on with, or messages, which are answered. A field that is not known is refused: it
/// would be a wish that nobody hears.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamGenerate {
    /// As a message says it, and a line may.
    #[serde(default, rename = "type", skip_serializing_if = "GenerateType::is_said_by_the_message")]
    pub kind: GenerateType,
    /// Names the generation in what is sent of it; needed when several run on one connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub request_id: Option<String>,
    /// A text to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A conversation to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<ChatMessage>>,
    /// Rules for the model, before the messages, or before the prompt, which is then a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Most tokens of output; 512 unless told.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "max_new_tokens")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// How tokens are chosen, and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<StreamParams>,
    /// Whether tokens are kept for a while when the connection is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable: Option<bool>,
    /// What kind of client this is: `desktop`, `mobile` or `battery`. The latter two get tokens in larger pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ClientProfile>,
}

/// The word `generate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GenerateType {
    /// The only one.
    #[default]
    Generate,
}

impl GenerateType {
    /// Always: [`ClientMessage`] writes it.
    fn is_said_by_the_message(&self) -> bool {
        match self {
            Self::Generate => true,
        }
    }
}

/// Body of `POST /stream/generate`: one prompt or many with the same settings, or a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamBatch {
    /// A text to go on with, or several.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "prompts")]
    pub prompt: Option<PromptTexts>,
    /// A conversation to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<ChatMessage>>,
    /// Rules for the model, before the messages, or before each prompt, which is then a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Most tokens of each output; 512 unless told.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "max_new_tokens")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// How tokens are chosen, and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<StreamParams>,
}

/// How tokens are chosen, and more; the names are those of `/v1/chat/completions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamParams {
    /// 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// Above 0, to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// 0 or -1: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1)]
    pub top_k: Option<i64>,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f64>,
    /// Above 0, to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 10)]
    pub repetition_penalty: Option<f64>,
    /// -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f64>,
    /// -100 to 100, by token id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// The same seed gives the same text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// At most 4 texts that end the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// At most 64 tokens that end the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 64)]
    pub stop_token_ids: Option<Vec<u32>>,
    /// Goes on over the end of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// 0 to 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<i64>,
    /// Seconds after which nobody waits for the output any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 86400)]
    pub timeout: Option<f64>,
    /// Text, any JSON object, or JSON of a schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// JSON of a schema, a regular expression, one of some texts, or a grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_outputs: Option<StructuredOutputs>,
    /// Functions that the model may call; with messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 128)]
    pub tools: Option<Vec<Tool>>,
    /// Whether and which; with messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Variables for the chat template; with messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What kind of client asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientProfile {
    /// Each token as it comes.
    #[default]
    Desktop,
    /// A phone: fewer, larger messages.
    Mobile,
    /// Wants to sleep as long as it can: still fewer.
    Battery,
}

/// Stop a generation: the one of `request_id` or `stream_id`, or all of this connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamCancel {
    /// As in `generate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// As in `started`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
}

/// Go on with a stream of the same principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamResume {
    /// As in `started`.
    pub stream_id: String,
    /// `position` of the last token that came; absent: none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// A name on this connection; the one before unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub request_id: Option<String>,
}

/// What a service says: a message of the WebSocket, a line of NDJSON, or the data of a server-sent event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerMessage {
    /// As the client named it; absent when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Of `/stream/generate`: number of the prompt, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub event: ServerEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerEvent {
    /// A generation with a `request_id`, or a resumable one, was taken.
    Started {
        /// To resume with.
        stream_id: String,
    },
    /// One token, or several for a slow client.
    Token {
        /// It.
        token: StreamToken,
    },
    /// A call of a tool began or went on.
    ToolCall {
        /// It.
        tool_call: StreamToolCall,
    },
    /// Something went wrong.
    Error {
        /// What.
        error: StreamProblem,
    },
    /// The end.
    Complete {
        /// What it took.
        summary: Summary,
        /// Why it ended; null when an error or a `cancel` ended it.
        finish_reason: Option<FinishReason>,
        /// Whether the client cancelled it.
        cancelled: bool,
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Of those, found in the cache.
        cached_tokens: u64,
    },
}

/// A token, or several for a slow client.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StreamToken {
    /// Its id; the last one's of several.
    pub id: u32,
    /// The text that it adds; empty while half of a character is held back.
    pub text: String,
    /// Its number in the output, from 0; the last one's of several.
    pub position: u64,
    /// Since the token before; the mean of several.
    pub latency_ms: f64,
    /// How many it stands for; absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Of an answer to messages: what the model thinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

/// A call that began or went on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamToolCall {
    /// Which call of the answer, from 0.
    pub index: u64,
    /// In the call's first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In the call's first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' JSON.
    pub arguments: String,
    /// Number of the token that brought it.
    pub position: u64,
}

/// An error in a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StreamProblem {
    /// Stable code.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the stream goes on.
    pub recoverable: bool,
    /// The field of the message at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Of an NDJSON body: the line at fault, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Seconds to wait before trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

/// What a stream took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// Tokens of output.
    pub total_tokens: u64,
    /// From the request to the end.
    pub session_duration_sec: f64,
    /// From the request to the first token; null without one.
    pub time_to_first_token_ms: Option<f64>,
    /// Mean time between tokens.
    pub average_token_latency_ms: f64,
    /// 95th percentile of it.
    pub p95_token_latency_ms: f64,
    /// Tokens a second of generation.
    pub average_throughput: f64,
    /// Tokens a second from the request to the end.
    pub end_to_end_throughput: f64,
    /// Most resident memory of the process meanwhile.
    pub max_memory_usage_mb: f64,
    /// Errors, recovered ones included.
    pub error_count: u64,
    /// Errors a token.
    pub error_rate: f64,
    /// How many sequences ran in most of its steps.
    pub most_common_batch_size: u64,
}
