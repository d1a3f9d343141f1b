//! The door of the WebSocket `/stream`: who may open one, and how it is spoken.

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderName, HeaderValue},
    web,
};
use videosdgx_api::Problem;
use videosdgx_shell::{Failure, Generate, HandlerResult, authenticate};

use crate::{
    service::TextService,
    socket::{Connection, Offered, check_origin, drive},
};

const PROTOCOL: HeaderName = header::SEC_WEBSOCKET_PROTOCOL;
/// Longest message of a client; pictures make it larger.
const MAX_MESSAGE: usize = 4 << 20;
const MAX_MESSAGE_WITH_PICTURES: usize = 16 << 20;

/// Open a WebSocket
///
/// Messages both ways as JSON text (subprotocol `videosdgx.v1.json`, or none) or as MessagePack (`videosdgx.v1.msgpack`): the
/// client sends `generate`, `cancel` and `resume`, the service `started`, `token`, `tool_call`, `error` and `complete`; see
/// `ClientMessage` and `ServerMessage`. The token goes into `Authorization`, or from a browser into the subprotocol
/// `bearer.<token>` beside the other. Close codes: 1001 shutting down, 1003 text and binary mixed up, 1007 no UTF-8, 1008 no
/// answer to pings or too many mistakes, 1009 too large, 1013 too many connections.
#[utoipa::path(get, path = "/stream", tag = "streams",
    params(("Sec-WebSocket-Protocol" = Option<String>, Header,
        description = "`videosdgx.v1.json` or `videosdgx.v1.msgpack`, and `bearer.<token>` from browsers")),
    responses((status = 101, description = "The connection is a WebSocket now"),
        (status = 426, description = "That was no WebSocket: send Upgrade", content_type = "application/problem+json",
            body = Problem)))]
pub(crate) async fn socket(
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    let values = request.headers().get_all(PROTOCOL).filter_map(|value| value.to_str().ok());
    let offered = Offered::of(values);
    let principal = {
        let given = request.headers().get_all(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let offered = offered.tokens.iter().map(String::as_bytes);
        authenticate::<Generate>(&request, given.chain(offered)).await?
    };
    check_origin(request.headers(), &service.settings.origins)?;
    service.shell.refuse_when_draining()?;
    if !is_upgrade(&request) {
        return Err(Failure(upgrade_required()));
    }
    if offered.unknown {
        let detail =
            "none of the offered subprotocols is known; offer videosdgx.v1.json or videosdgx.v1.msgpack";
        return Err(Failure(Problem::field("Sec-WebSocket-Protocol", detail)));
    }
    let protocols: Vec<&str> = offered.answer.into_iter().collect();
    let (response, session, messages) = actix_ws::handle_with_protocols(&request, payload, &protocols)
        .map_err(|error| Failure(Problem::field("Upgrade", format!("the handshake is wrong: {error}"))))?;
    let service = service.into_inner();
    let pictures = service.ready.get().is_some_and(|ready| ready.images.is_some());
    let most = if pictures { MAX_MESSAGE_WITH_PICTURES } else { MAX_MESSAGE };
    let messages = messages.max_frame_size(most).aggregate_continuations().max_continuation_size(most);
    let connection = Connection { service, principal: principal.as_str().to_owned(), format: offered.format };
    actix_web::rt::spawn(drive(connection, session, messages));
    Ok(response)
}

fn is_upgrade(request: &HttpRequest) -> bool {
    let value = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.eq_ignore_ascii_case("websocket")
}

fn upgrade_required() -> Problem {
    Problem {
        status: 426,
        title: "Upgrade required".to_owned(),
        ..Problem::new(videosdgx_api::Code::InvalidBody, "this path is a WebSocket: send Upgrade: websocket")
    }
}
