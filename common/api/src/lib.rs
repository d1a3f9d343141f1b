//! Types of the HTTP APIs: ids, requests, responses, events and problems. Serde and utoipa only, no I/O, so that the
//! gateway, the services and the client share one definition of everything.

mod bounded;
mod compute;
mod event;
mod generation;
mod ids;
mod job;
mod lora;
mod media_type;
mod metrics;
mod model;
pub mod openai;
mod principal;
mod problem;
mod resolution;
pub mod routes;
mod scope;
mod status;
mod stream;
mod submission;
mod text;
mod whole_number;

pub use bounded::{MAX_BIASES, MAX_MESSAGES};
pub use compute::{DeviceChoice, DtypeChoice, Quantization, UnknownChoice};
pub use event::{EventKind, JobEvent};
pub use generation::{
    AudioFormat, GenerateRequest, GenerationSettings, InvalidAttachments, OutputFormat, SchedulerName,
};
pub use ids::{InvalidId, JobId, Priority};
pub use job::{Job, JobList, JobStatus, Stage};
pub use lora::{Lora, LoraChoice, LoraLayout, LoraList, MAX_LORA_NAME, MAX_LORA_SCALE, MAX_LORAS};
pub use media_type::{NOT_ENCODED, accepted_media_types, is_encoded, media_type};
pub use metrics::{InferenceRecord, MetricsReport};
pub use model::{FrameRule, ModelDescription, ModelLimits, Support};
pub use principal::Principal;
pub use problem::{Code, Problem};
pub use resolution::Resolution;
pub use scope::{Scope, UnknownScope};
pub use status::{
    Endpoint, Freed, Gpu, Health, Info, LoaderReport, LoaderState, MemoryReport, QueueStatus, Readiness,
    ServiceRoot, SystemReport,
};
pub use stream::{
    ClientMessage, ClientProfile, GenerateType, ServerEvent, ServerMessage, StreamBatch, StreamCancel,
    StreamGenerate, StreamParams, StreamProblem, StreamResume, StreamToken, StreamToolCall, Summary,
};
pub use submission::{BatchAccepted, BatchRequest, GenerateAccepted, ResolvedRequest};
pub use text::{
    EngineReport, GenerationRecord, TextInfo, TextMetricsReport, TextModelDescription, ToolCallForm,
};
