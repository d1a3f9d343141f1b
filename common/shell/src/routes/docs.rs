//! Documentation of the API: the OpenAPI document, Swagger UI (part of the program, nothing is fetched),
//! public keys.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use utoipa_swagger_ui::Config;
use videosdgx_api::Code;

use crate::{Failure, HandlerResult, Shell, static_body::StaticBody};

/// Swagger UI needs inline styles; everything else is loaded from this host only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// This API as OpenAPI 3.1
#[utoipa::path(get, path = "/openapi.json", tag = "docs", responses((status = 200, body = serde_json::Value)))]
pub async fn openapi(shell: web::Data<Shell>) -> HandlerResult {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = match TEXT.get() {
        Some(text) => text,
        None => {
            let text = shell.info.document(shell.name()).to_json().map_err(Failure::internal)?;
            TEXT.get_or_init(|| text)
        }
    };
    Ok(HttpResponse::Ok().content_type("application/json").body(text.as_str()))
}

/// Redirects to /docs/
#[utoipa::path(get, path = "/docs", tag = "docs", responses(
    (status = 308, description = "See /docs/"),
    (status = 200, description = "The page, for clients that follow redirects", content_type = "text/html", body = String)))]
pub async fn leads_to_docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "docs/")).finish()
}

/// Swagger UI
#[utoipa::path(get, path = "/docs/", tag = "docs", responses(
    (status = 200, content_type = "text/html", body = String)))]
pub async fn page() -> HandlerResult {
    swagger("")
}

/// A file of Swagger UI
#[utoipa::path(get, path = "/docs/{file}", tag = "docs",
    params(("file" = String, Path, description = "Name of the file", example = "index.html")),
    responses((status = 200, description = "Scripts, styles, pictures", content(
        (String = "text/html"), (String = "text/javascript"), (String = "text/css"), (String = "image/png"),
        (String = "application/json")))))]
pub async fn file(request: HttpRequest) -> HandlerResult {
    swagger(request.match_info().get("file").unwrap_or_default())
}

fn swagger(name: &str) -> HandlerResult {
    static CONFIG: OnceLock<Arc<Config<'static>>> = OnceLock::new();
    let config =
        CONFIG.get_or_init(|| Arc::new(Config::from("../openapi.json").persist_authorization(false)));
    let file = utoipa_swagger_ui::serve(name, Arc::clone(config)).map_err(Failure::internal)?;
    let file = file.ok_or_else(|| Failure::new(Code::NotFound, "there is no such file below /docs/"))?;
    Ok(HttpResponse::Ok()
        .content_type(file.content_type)
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(StaticBody::new(match file.bytes {
            Cow::Borrowed(bytes) => web::Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        })))
}

/// The public keys that tokens are verified with
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "docs", responses(
    (status = 200, body = serde_json::Value)))]
pub async fn jwks(shell: web::Data<Shell>) -> HttpResponse {
    HttpResponse::Ok().json(shell.verifier.public_jwks())
}
