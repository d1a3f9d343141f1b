//! The outermost middleware: request ids, problem documents, logs, metrics and the count of open responses.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use actix_web::{
    Error, HttpMessage as _, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{ConnectionType, StatusCode, header},
    middleware::Next,
    web,
};
use tracing::Instrument as _;
use videosdgx_api::{Problem, routes::ErrorFormat};
use videosdgx_connection::{ConnectionHandle, RequestGuard, names_websocket};

use crate::{
    Shell, hide_folders,
    identity::IsAdmin,
    problem_response::{self, PROBLEM_JSON},
};

/// Identifies a request in responses, problems and the log.
const REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-request-id");

/// The request's id, in its extensions; streams derive their ids from it.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Wraps every route, and responses to paths without a route.
pub(crate) async fn edge(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let began = Instant::now();
    let shell = request.app_data::<web::Data<Shell>>().cloned();
    let id = request_id(&request);
    let method = request.method().clone();
    request.extensions_mut().insert(RequestId(id.clone()));
    let asks_for_websocket =
        request.headers().get_all(header::UPGRADE).any(|value| names_websocket(value.as_bytes()));
    let answer_counted = shell.clone().map(CountedAnswer::new);
    let answering = request.conn_data::<ConnectionHandle>().map(ConnectionHandle::begin_request);
    let span = tracing::info_span!("request", request_id = %id);

    let response = match next.call(request).instrument(span.clone()).await {
        Ok(response) => response.map_into_boxed_body(),
        Err(error) => return Err(error),
    };
    let _entered = span.enter();
    let openai = shell.as_ref().is_some_and(|shell| {
        let table = shell.info.api().table();
        table.error_format(response.request().path()) == ErrorFormat::OpenAi
    });
    let mut response = with_problem(response, &id, openai);
    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status().as_u16();
    let seconds = began.elapsed().as_secs_f64();
    if let Some(shell) = &shell {
        shell.metrics.observe_request(method.as_str(), &route, status, seconds);
        // The server does not close an upgraded connection.
        if shell.drain.has_begun() && status != 101 {
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
    }
    if asks_for_websocket && status != 101 {
        // The framing of what follows was not checked.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let milliseconds = (seconds * 1e4).round() / 10.0;
    if matches!(route.as_str(), "/health" | "/ready" | "/metrics") {
        tracing::debug!(%method, route, status, milliseconds, "answered");
    } else {
        tracing::info!(%method, route, status, milliseconds, "answered");
    }
    let headers = response.headers_mut();
    if let Ok(value) = header::HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::REFERRER_POLICY) {
        headers.insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    }
    let _answering = match answering {
        // An upgraded connection has no further requests.
        Some(guard) if status == 101 => {
            guard.upgraded();
            None
        }
        guard => guard,
    };
    Ok(response.map_body(|_, body| BoxBody::new(CountedBody { body, _counted: answer_counted, _answering })))
}

/// The client's own id when it is well-formed, else a new one.
fn request_id(request: &ServiceRequest) -> String {
    let sane = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(sane)
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// Turns every error response, the framework's included, into a problem document that names the request.
fn with_problem(response: ServiceResponse<BoxBody>, id: &str, openai: bool) -> ServiceResponse<BoxBody> {
    let known = response.response().extensions().get::<Problem>().cloned();
    let is_admin = response.request().extensions().get::<IsAdmin>().is_some();
    let problem = match known {
        Some(problem) if is_admin => problem,
        Some(problem) => Problem { detail: hide_folders(&problem.detail).into_owned(), ..problem },
        None if is_bare_refusal(response.response()) => {
            problem_response::of_status(response.status(), response.request().path())
        }
        None => return response,
    };
    let (kind, body) = if openai {
        ("application/json", problem_response::openai_body(problem))
    } else {
        (PROBLEM_JSON, problem_response::body(&problem.with_request_id(id)))
    };
    let mut response = response.map_body(|_, _| BoxBody::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.remove(header::CONTENT_LENGTH);
    response
}

fn is_bare_refusal(response: &HttpResponse<BoxBody>) -> bool {
    let refusal = response.status().is_client_error() || response.status().is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    let written_by_us = matches!(kind, Some(b"application/json" | b"application/problem+json"));
    refusal && response.status() != StatusCode::PRECONDITION_FAILED && !written_by_us
}

struct CountedAnswer(web::Data<Shell>);

impl CountedAnswer {
    fn new(shell: web::Data<Shell>) -> Self {
        shell.drain.response_began();
        Self(shell)
    }
}

impl Drop for CountedAnswer {
    fn drop(&mut self) {
        self.0.drain.response_ended();
    }
}

/// A body whose response counts as open until it has been written to the socket, or the client has disconnected.
struct CountedBody {
    body: BoxBody,
    _counted: Option<CountedAnswer>,
    /// Ends the phase of the connection in which it has no time limits for reading.
    _answering: Option<RequestGuard>,
}

impl MessageBody for CountedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<web::Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
