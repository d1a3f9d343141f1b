//! Swagger UI, from files in the executable.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use utoipa_swagger_ui::Config;
use videosdgx_api::Code;

use crate::failure::Failure;

/// Loads resources from this host only. Swagger UI needs inline styles.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("/openapi.json").persist_authorization(false).try_it_out_enabled(true);
    Arc::new(config.validator_url("none"))
});

pub(crate) async fn to_index() -> Redirect {
    Redirect::permanent("/docs/")
}

pub(crate) async fn index() -> Result<Response, Failure> {
    file(Path(String::new())).await
}

pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, Failure> {
    let not_found = || Failure::new(Code::NotFound, "there is no such path");
    let file = utoipa_swagger_ui::serve(&name, Arc::clone(&CONFIG)).ok().flatten().ok_or_else(not_found)?;
    // Served from the executable's memory: a client that requests much and reads nothing costs no copies.
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    let content_type = file.content_type.parse().map_err(|_| not_found())?;
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_SECURITY_POLICY, http::HeaderValue::from_static(CONTENT_SECURITY));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-cache"));
    if file.gzpipped {
        headers.insert(CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
