//! `/v1/videos/…`: jobs of all video services in OpenAI's form.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use videosdgx_api::openai::{ModelKind, Video, VideoDeleted, VideoList};
use videosdgx_api::{Code, Job};

use super::shape::{in_openai_names, video};
use crate::Gateway;
use crate::failure::Failure;
use crate::jobs::{self, ListOptions, LocatedJob};
use crate::proxy::forward;
use crate::retry::Destination;
use crate::upstream::Upstream;
use crate::upstream_client::{UpstreamClient, refusal};

/// Largest error of a service that is read and converted to OpenAI's form, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Videos per page. Default: 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// Id of the last video of the previous page.
    #[param(value_type = Option<String>)]
    after: Option<String>,
    /// Order by time of creation. Default: `desc`.
    #[param(inline)]
    order: Option<Order>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// The caller's videos of all models.
#[utoipa::path(get, path = "/v1/videos", operation_id = "listVideos", tag = "OpenAI", params(ListQuery),
    responses((status = 200, description = "One page.", body = VideoList)))]
pub(crate) async fn list_videos(
    State(gateway): State<Arc<Gateway>>,
    parts: Parts,
) -> Result<Json<VideoList>, Failure> {
    let query = Query::<ListQuery>::try_from_uri(&parts.uri)
        .map_err(|error| Failure::new(Code::InvalidField, error.body_text()))?;
    let after = query.after.as_deref().map(jobs::parse_id).transpose();
    let after = after.map_err(|_| Failure::field("after", "there is no such job to continue after"))?;
    let limit = jobs::check_limit(query.limit, 100)?;
    let options = ListOptions { after, limit, oldest_first: query.order == Some(Order::Asc), status: None };
    let client = UpstreamClient::new(&parts);
    let (page, has_more) = jobs::list(&gateway, &client, &video_services(&gateway), &options).await?;
    let data: Vec<Video> = page.into_iter().map(shaped).collect();
    Ok(Json(VideoList {
        object: "list".to_owned(),
        first_id: data.first().map(|video| video.id.clone()),
        last_id: data.last().map(|video| video.id.clone()),
        has_more,
        data,
    }))
}

/// One video.
#[utoipa::path(get, path = "/v1/videos/{video_id}", operation_id = "retrieveVideo", tag = "OpenAI",
    params(("video_id" = String, Path)),
    responses((status = 200, description = "The current state of the video.", body = Video)))]
pub(crate) async fn retrieve_video(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Json<Video>, Failure> {
    let found = find(&gateway, &UpstreamClient::new(&parts), &id).await?;
    Ok(Json(shaped(found)))
}

/// Deletes a video with its file. A video that is not finished is cancelled first; if that takes longer than a moment the
/// answer is 409 with `Retry-After`, and a later request deletes it.
#[utoipa::path(delete, path = "/v1/videos/{video_id}", operation_id = "deleteVideo", tag = "OpenAI",
    params(("video_id" = String, Path)),
    responses((status = 200, description = "The video is deleted.", body = VideoDeleted),
        (status = 409, description = "The video is being cancelled and has not stopped yet.",
            body = videosdgx_api::openai::ErrorBody)))]
pub(crate) async fn delete_video(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Json<VideoDeleted>, Failure> {
    let client = UpstreamClient::new(&parts);
    let id = jobs::parse_id(&id)?;
    let upstreams = video_services(&gateway);
    let upstream = jobs::locate(&gateway, &client, &upstreams, &id).await?;
    // The service cancels an unfinished job first, and answers 409 if that takes longer than a moment.
    client.delete::<Job>(&gateway, &upstream, &format!("/jobs/{id}?forget=true")).await?;
    Ok(Json(VideoDeleted { id: id.to_string(), object: "video.deleted".to_owned(), deleted: true }))
}

/// Cancels a video that is not finished; a finished one is not changed.
#[utoipa::path(post, path = "/v1/videos/{video_id}/cancel", operation_id = "cancelVideo", tag = "OpenAI",
    params(("video_id" = String, Path)),
    responses((status = 200, description = "The current state of the video.", body = Video)))]
pub(crate) async fn cancel_video(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Json<Video>, Failure> {
    let client = UpstreamClient::new(&parts);
    let id = jobs::parse_id(&id)?;
    let upstream = jobs::locate(&gateway, &client, &video_services(&gateway), &id).await?;
    let path = format!("/jobs/{id}");
    let job = match client.delete::<Job>(&gateway, &upstream, &path).await {
        // The job has already ended.
        Err(failure) if failure.problem().status == 409 => {
            client.get::<Job>(&gateway, &upstream, &path).await?
        }
        answer => answer?,
    };
    Ok(Json(shaped(LocatedJob { job, upstream })))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ContentQuery {
    /// Which file. Default: `video`.
    #[param(value_type = Option<Variant>, inline)]
    variant: Option<String>,
}

/// Which file of a video to download.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "the schema of a query parameter")]
pub(crate) enum Variant {
    /// The MP4 file, or the picture file of a video with `format` `png` or `webp`.
    Video,
    /// A WebP picture of the middle frame.
    Thumbnail,
    /// A JPEG picture of up to 25 small frames, in rows of five.
    Spritesheet,
}

/// The file of a completed video, or pictures of it. Supports `Range`.
#[utoipa::path(get, path = "/v1/videos/{video_id}/content", operation_id = "downloadVideo", tag = "OpenAI",
    params(("video_id" = String, Path), ContentQuery),
    responses(
        (status = 200, description = "The file.",
            content((Vec<u8> = "video/mp4"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/jpeg"))),
        (status = 206, description = "A part of the file.",
            content((Vec<u8> = "video/mp4"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/jpeg"))),
        (status = 304, description = "The file has not changed."),
        (status = 409, description = "The video is not completed.",
            body = videosdgx_api::openai::ErrorBody),
        (status = 410, description = "The file no longer exists.", body = videosdgx_api::openai::ErrorBody),
        (status = 412, description = "The file has changed."),
        (status = 416, description = "The range is outside the file.",
            body = videosdgx_api::openai::ErrorBody)))]
pub(crate) async fn video_content(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let query = Query::<ContentQuery>::try_from_uri(request.uri())
        .map_err(|error| Failure::new(Code::InvalidField, error.body_text()))?;
    let what = match query.variant.as_deref() {
        None | Some("video") => "download",
        Some("thumbnail") => "download?variant=thumbnail",
        Some("spritesheet") => "download?variant=spritesheet",
        Some(_) => return Err(Failure::field("variant", "variant is video, thumbnail or spritesheet")),
    };
    forward_to_job(&gateway, &id, what, request).await
}

/// One event of a stream.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the schema of an event that a service writes")]
pub(crate) struct ServerSentEvent {
    /// Grows by one with each event of a job; absent on `reconnect`.
    #[schema(pattern = "^[0-9]+$")]
    id: Option<String>,
    /// `state`, `progress`, or `reconnect` when the stream ends before the job.
    event: String,
    /// A `JobEvent` as JSON; of `reconnect`, `{"reason", "retry_milliseconds"}`.
    data: String,
}

/// Progress as server-sent events: `state` and `progress`, each with an `id`; `Last-Event-ID` resumes.
#[utoipa::path(get, path = "/v1/videos/{video_id}/events", operation_id = "streamVideoEvents", tag = "OpenAI",
    params(("video_id" = String, Path),
        ("Last-Event-ID" = Option<String>, Header, pattern = "^[0-9]{1,18}$", description = "Continue after this event."),
        ("last_event_id" = Option<u64>, Query, minimum = 0, maximum = 999_999_999_999_999_999_u64,
            description = "The same, for clients that cannot set headers.")),
    responses(
        (status = 200, description = "A stream of events until the video is finished.",
            content_type = "text/event-stream", body = ServerSentEvent),
        (status = 204, description = "The video is finished and all its events have been received: do not reconnect.")))]
pub(crate) async fn video_events(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let what = match request.uri().query() {
        Some(query) => format!("events?{query}"),
        None => "events".to_owned(),
    };
    forward_to_job(&gateway, &id, &what, request).await
}

/// Forwards the request to the service that has the job; converts its errors to OpenAI's form.
async fn forward_to_job(
    gateway: &Gateway,
    id: &str,
    what: &str,
    request: Request,
) -> Result<Response, Failure> {
    let id = jobs::parse_id(id)?;
    let (parts, body) = request.into_parts();
    let upstream = jobs::locate(gateway, &UpstreamClient::new(&parts), &video_services(gateway), &id).await?;
    let request = Request::from_parts(parts, body);
    let path = format!("/jobs/{id}/{what}");
    let response = forward(gateway, Destination::Only(&upstream), request, &path).await?;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() || status.as_u16() == 412 {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_REFUSAL).collect().await.map(|all| all.to_bytes()).unwrap_or_default();
    let failure = in_openai_names(refusal(status, &body));
    // `Content-Range: bytes */size` belongs to 416.
    let range = parts.headers.get(http::header::CONTENT_RANGE).cloned();
    let mut response = axum::response::IntoResponse::into_response(failure);
    if let Some(range) = range {
        response.headers_mut().insert(http::header::CONTENT_RANGE, range);
    }
    Ok(response)
}

fn video_services(gateway: &Gateway) -> Vec<Arc<Upstream>> {
    jobs::upstreams(gateway.models.of_kind(ModelKind::Video))
}

async fn find(gateway: &Gateway, client: &UpstreamClient, id: &str) -> Result<LocatedJob, Failure> {
    let id = jobs::parse_id(id)?;
    jobs::find(gateway, client, &video_services(gateway), &id).await
}

/// A job in OpenAI's form.
fn shaped(found: LocatedJob) -> Video {
    video(found.job, &found.upstream.model)
}
