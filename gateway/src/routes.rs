//! The routes of the gateway.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::header::CONTENT_TYPE;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use videosdgx_api::Code;

use crate::facade::{completions, create, models, videos};
use crate::failure::Failure;
use crate::native::native;
use crate::{Gateway, docs, openapi, pages};

/// The documented routes and their OpenAPI document.
pub(crate) fn documented() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(pages::root))
        .routes(routes!(pages::health))
        .routes(routes!(pages::ready))
        .routes(routes!(pages::metrics))
        .routes(routes!(pages::jwks))
        .routes(routes!(models::list_models))
        .routes(routes!(models::retrieve_model))
        .routes(routes!(completions::create_chat_completion))
        .routes(routes!(completions::create_completion))
        .routes(routes!(create::create_video, videos::list_videos))
        .routes(routes!(videos::retrieve_video, videos::delete_video))
        .routes(routes!(videos::cancel_video))
        .routes(routes!(videos::video_content))
        .routes(routes!(videos::video_events))
}

/// All routes. Paths below `/models/{model}` are documented by the services themselves.
pub(crate) fn router(gateway: &Arc<Gateway>) -> Router {
    let (documented, _) = documented().split_for_parts();
    documented
        .route("/models/{model}", any(native))
        .route("/models/{model}/", any(native))
        .route("/models/{model}/{*path}", any(native))
        .route("/openapi.json", get(document))
        .route("/docs", get(docs::to_index))
        .route("/docs/", get(docs::index))
        .route("/docs/{*file}", get(docs::file))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(gateway))
}

/// The OpenAPI document of the gateway and all services.
async fn document(State(gateway): State<Arc<Gateway>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], gateway.document()).into_response()
}

async fn not_found() -> Failure {
    Failure::new(Code::NotFound, "there is no such path; see /docs/")
}

async fn method_not_allowed() -> Failure {
    Failure::new(Code::MethodNotAllowed, "the path does not take this method; see /docs/")
}
