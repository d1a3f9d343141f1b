//! Types that cross the walls: ids, requests, answers, events and problems. Serde and utoipa only, no I/O, so that the
//! gateway, the services and the client share one spelling of everything.

mod compute;
mod event;
mod generate;
mod ids;
mod job;
mod media_type;
mod metrics;
pub mod openai;
mod principal;
mod problem;
pub mod routes;
mod scope;
mod status;
mod stream;
mod text;

pub use compute::{DeviceChoice, DtypeChoice, Quantization, UnknownChoice};
pub use event::{EventKind, JobEvent};
pub use generate::{
    BatchAccepted, BatchRequest, GenerateAccepted, GenerateRequest, Generated, OutputFormat, Resolution,
    ResolvedRequest, SchedulerName,
};
pub use ids::{InvalidId, JobId, Priority};
pub use job::{Job, JobList, JobStatus, Stage};
pub use media_type::{accepted_media_types, media_type};
pub use metrics::{InferenceRecord, MetricsReport};
pub use principal::Principal;
pub use problem::{Code, Problem};
pub use scope::{Scope, UnknownScope};
pub use status::{
    Endpoint, Freed, Gpu, Health, Info, LoaderReport, LoaderState, MemoryReport, ModelDescription,
    ModelLimits, QueueStatus, Readiness, ServiceRoot, SystemReport,
};
pub use stream::{
    ClientMessage, ClientProfile, GenerateType, ServerEvent, ServerMessage, StreamBatch, StreamCancel,
    StreamGenerate, StreamParams, StreamProblem, StreamResume, StreamToken, StreamToolCall, Summary,
};
pub use text::{EngineReport, GenerationRecord, TextInfo, TextMetricsReport, TextModel};
