//! `/v1/chat/completions` and `/v1/completions`: routed by the `model` in the body, which is forwarded unchanged.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use videosdgx_api::Code;
use videosdgx_api::openai::{ChatCompletion, ChatRequest, Completion, CompletionRequest, ModelKind};
use videosdgx_auth::Identity;
use videosdgx_connection::{BodyLease, BudgetExceeded};

use super::create_body::refuse_encoded;
use super::model_lookup::{find_model, missing_model};
use crate::Gateway;
use crate::failure::Failure;
use crate::proxy::forward;
use crate::retry::Destination;
use crate::upstream_client::refusal;

/// Largest problem document of a service that is read, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

/// One event of a stream.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the schema of an event that a service writes")]
pub(crate) struct CompletionEvent {
    /// A `ChatChunk` or `Completion` as JSON, an `ErrorBody` when generation fails; `[DONE]` at the end.
    data: String,
}

/// Answers a conversation. With `stream` the answer comes as server-sent events while it is generated. A request is never
/// sent to two services.
#[utoipa::path(post, path = "/v1/chat/completions", operation_id = "createChatCompletion", tag = "OpenAI",
    request_body = ChatRequest,
    responses((status = 200, description = "The answer; with `stream` events, each a `ChatChunk`.",
        content((ChatCompletion = "application/json"), (CompletionEvent = "text/event-stream")))))]
pub(crate) async fn create_chat_completion(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Failure> {
    route(&gateway, request, "/v1/chat/completions").await
}

/// Continues a text. With `stream` the text comes as server-sent events while it is generated.
#[utoipa::path(post, path = "/v1/completions", operation_id = "createCompletion", tag = "OpenAI",
    request_body = CompletionRequest,
    responses((status = 200, description = "The text; with `stream` events, each a `Completion`.",
        content((Completion = "application/json"), (CompletionEvent = "text/event-stream")))))]
pub(crate) async fn create_completion(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Failure> {
    route(&gateway, request, "/v1/completions").await
}

async fn route(gateway: &Gateway, request: Request, path: &str) -> Result<Response, Failure> {
    refuse_encoded(request.headers())?;
    let (mut parts, body) = request.into_parts();
    let principal = parts.extensions.get::<Identity>().map(|identity| identity.principal().shared());
    let buffered = BufferedBody::read(gateway, principal.unwrap_or_default(), body).await?;
    let name = model_name(&buffered.bytes)?.ok_or_else(|| missing_model(gateway, ModelKind::Text))?;
    let model = find_model(gateway, Some(&name), ModelKind::Text)?;
    // The buffered body is sent with a length, also when it came in chunks.
    parts.headers.insert(CONTENT_LENGTH, buffered.bytes.len().into());
    let request = Request::from_parts(parts, Body::from(buffered.bytes.clone()));
    let response = forward(gateway, Destination::Any(model), request, path).await?;
    as_openai_error(response).await
}

/// A request body in memory, counted against the limits of buffered bodies.
struct BufferedBody {
    bytes: Bytes,
    /// Returned when the service has begun to answer.
    _lease: BodyLease,
}

impl BufferedBody {
    /// Reads a whole body, whose size is limited by a layer. Fails at once when its principal holds too much (429) or all
    /// principals together do (503).
    async fn read(gateway: &Gateway, principal: Arc<str>, body: Body) -> Result<Self, Failure> {
        let mut chunks = body.into_data_stream();
        let mut bytes = Vec::new();
        let mut lease = gateway.buffers.lease(principal);
        while let Some(chunk) = chunks.next().await {
            // The layer that limits size and pace reports the exact reason.
            let chunk = chunk.map_err(|_| Failure::new(Code::InvalidBody, "the body ended early"))?;
            lease.grow_to(bytes.len() + chunk.len()).map_err(|exceeded| {
                gateway.metrics.limited("buffers");
                let (code, detail, limit) = match exceeded {
                    BudgetExceeded::Principal(limit) => {
                        (Code::RateLimited, "you send too many large requests at once, wait", limit)
                    }
                    BudgetExceeded::Total(limit) => {
                        (Code::Overloaded, "too many large requests at once, try again", limit)
                    }
                };
                Failure::later(code, detail, 1).map(|problem| problem.limit = Some(limit.into()))
            })?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self { bytes: bytes.into(), _lease: lease })
    }
}

#[derive(Deserialize)]
struct ModelField {
    model: Option<Value>,
}

/// The `model` of a JSON object.
fn model_name(body: &[u8]) -> Result<Option<String>, Failure> {
    let invalid =
        |reason: &str| Failure::new(Code::InvalidBody, format!("the body is not a JSON object: {reason}"));
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(invalid("it does not begin with {"));
    }
    let fields: ModelField = serde_json::from_slice(body).map_err(|error| invalid(&error.to_string()))?;
    match fields.model {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name)),
        Some(_) => Err(Failure::field("model", "model must be a string")),
    }
}

/// Converts a problem document to OpenAI's error object. A service answers these paths with the latter, but its outer
/// layers may refuse a request with a problem document.
async fn as_openai_error(response: Response) -> Result<Response, Failure> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|content_type| content_type.starts_with("application/problem+json")) {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_REFUSAL).collect().await.map(|all| all.to_bytes()).unwrap_or_default();
    Ok(refusal(parts.status, &body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_model_is_read_from_the_object() {
        let read =
            |body: &str| model_name(body.as_bytes()).map_err(|failure| failure.problem().field.clone());
        assert_eq!(
            read(r#" {"messages": [{"model": "no"}], "model": "m", "x": 1e400} "#),
            Ok(Some("m".into()))
        );
        assert_eq!(read(r#"{"model": null}"#), Ok(None));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"model": 7}"#), Err(Some("model".into())));
        // The service validates the rest; here it must not cause a failure.
        let deep = format!(r#"{{"model": "m", "a": {}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&deep), Ok(Some("m".into())));
        for bad in [
            "",
            "[\"m\"]",
            "nonsense",
            r#"{"model": "m""#,
            r#"{"model": "m"} x"#,
            r#"{"model": "a", "model": "b"}"#,
        ] {
            assert_eq!(read(bad), Err(None), "{bad}");
        }
    }
}
