//! The handshake of the WebSocket `/stream`: authentication, origin, subprotocol.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
    web,
};
use videosdgx_api::Problem;
use videosdgx_shell::{Failure, Generate, HandlerResult, authenticate};

use crate::{
    service::TextService,
    socket::{Connection, OfferedProtocols, check_origin, checked_frames, serve},
};

const PROTOCOL: HeaderName = header::SEC_WEBSOCKET_PROTOCOL;
/// The version of the WebSocket protocol.
const VERSION: &str = "13";
/// Maximum size of a client's message in bytes; larger if the model accepts pictures.
const MAX_MESSAGE: usize = 4 << 20;
const MAX_MESSAGE_WITH_PICTURES: usize = 16 << 20;

/// Open a WebSocket
///
/// Messages are JSON text (subprotocol `videosdgx.v1.json`, or none) or MessagePack (`videosdgx.v1.msgpack`). The client sends
/// `generate`, `cancel` and `resume`, the service `started`, `token`, `tool_call`, `error` and `complete`; see `ClientMessage`
/// and `ServerMessage`. The access token is sent in `Authorization`, or by browsers as the additional subprotocol
/// `bearer.<token>`. Close codes: 1001 shutting down, 1003 wrong message type (text or binary), 1007 invalid UTF-8, 1008 no
/// answer to pings or too many invalid messages, 1009 message too large, 1013 too many connections.
#[utoipa::path(get, path = "/stream", tag = "streams",
    params(("Sec-WebSocket-Protocol" = Option<String>, Header,
        description = "`videosdgx.v1.json` or `videosdgx.v1.msgpack`; browsers add `bearer.<token>`")),
    responses((status = 101, description = "Switched to the WebSocket protocol"),
        (status = 426, description = "Not a WebSocket request: send Upgrade", content_type = "application/problem+json",
            body = Problem)))]
pub(crate) async fn socket(
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    let values = request.headers().get_all(PROTOCOL).filter_map(|value| value.to_str().ok());
    let offered = OfferedProtocols::of(values);
    let principal = {
        let sent = request.headers().get_all(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let offered = offered.tokens.iter().map(String::as_bytes);
        authenticate::<Generate>(&request, sent.chain(offered)).await?
    };
    check_origin(request.headers(), &service.settings.origins)?;
    service.shell.refuse_when_draining()?;
    if !is_upgrade(&request) {
        return Ok(upgrade_required("this path is a WebSocket: send Upgrade: websocket"));
    }
    if request.headers().get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version != VERSION) {
        return Ok(upgrade_required("this service supports version 13 of the WebSocket protocol"));
    }
    if offered.unknown {
        let detail = "no offered subprotocol is supported; offer videosdgx.v1.json or videosdgx.v1.msgpack";
        return Err(Failure(Problem::field("Sec-WebSocket-Protocol", detail)));
    }
    let protocols: Vec<&str> = offered.selected.into_iter().collect();
    let pictures = service.last_runtime().is_some_and(|runtime| runtime.images.is_some());
    let max_size = if pictures { MAX_MESSAGE_WITH_PICTURES } else { MAX_MESSAGE };
    let payload = checked_frames(&request, payload, max_size).await?;
    let (response, session, messages) = actix_ws::handle_with_protocols(&request, payload, &protocols)
        .map_err(|error| Failure(Problem::field("Upgrade", format!("invalid handshake: {error}"))))?;
    let service = service.into_inner();
    let messages =
        messages.max_frame_size(max_size).aggregate_continuations().max_continuation_size(max_size);
    let connection = Connection { service, principal: principal.as_str().to_owned(), format: offered.format };
    actix_web::rt::spawn(serve(connection, session, messages));
    Ok(response)
}

fn is_upgrade(request: &HttpRequest) -> bool {
    let value = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.eq_ignore_ascii_case("websocket")
}

/// 426 with the protocol and the version that the path supports (RFC 9110 section 15.5.22, RFC 6455 section 4.4). The server adds
/// `Connection: upgrade`.
fn upgrade_required(detail: &str) -> HttpResponse {
    let problem = Problem {
        status: 426,
        title: "Upgrade required".to_owned(),
        ..Problem::new(videosdgx_api::Code::InvalidBody, detail)
    };
    let mut response = HttpResponse::from_error(Failure(problem));
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    response
}
