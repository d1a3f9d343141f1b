//! A gateway that plays a prepared job.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

pub(crate) const JOB: &str = "wan21-0k3f9a7c21xz";

/// What it plays and what it saw.
#[derive(Default)]
pub(crate) struct Play {
    /// Answers for `GET /jobs/{id}`, the last one for ever.
    pub(crate) statuses: Mutex<Vec<&'static str>>,
    /// Streams for `GET /jobs/{id}/events`, one a connection; none left: 404.
    pub(crate) streams: Mutex<Vec<String>>,
    /// The video.
    pub(crate) video: Vec<u8>,
    /// Cut each download after so many bytes.
    pub(crate) cut_after: Option<usize>,
    /// Answer so many submissions with 503 first.
    pub(crate) busy: Mutex<u32>,
    /// Names in `/v1/models`.
    pub(crate) models: Vec<&'static str>,
    /// Requests as `METHOD path`, with the headers that matter.
    pub(crate) seen: Mutex<Vec<(String, HeaderMap)>>,
    /// Bodies of submissions.
    pub(crate) bodies: Mutex<Vec<Value>>,
}

impl Play {
    pub(crate) fn new(statuses: &[&'static str], streams: &[&str]) -> Self {
        Self {
            statuses: Mutex::new(statuses.to_vec()),
            streams: Mutex::new(streams.iter().map(ToString::to_string).collect()),
            video: super::noise(100_000, 7),
            models: vec!["wan21"],
            ..Self::default()
        }
    }

    pub(crate) async fn serve(self) -> (Arc<Self>, String) {
        let play = Arc::new(self);
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/models/wan21/generate", axum::routing::post(generate))
            .route("/models/wan21/loras", get(loras))
            .route("/models/wan21/jobs", get(jobs))
            .route("/models/wan21/jobs/{id}", get(job).delete(cancel))
            .route("/models/wan21/jobs/{id}/events", get(events))
            .route("/models/wan21/jobs/{id}/download", get(download))
            .with_state(play.clone());
        let address = super::serve(router).await;
        (play, format!("http://{address}"))
    }

    fn note(&self, what: &str, headers: &HeaderMap) {
        self.seen.lock().unwrap().push((what.to_owned(), headers.clone()));
    }

    /// Values of a header in the requests of one kind.
    pub(crate) fn header(&self, what: &str, name: &str) -> Vec<Option<String>> {
        let seen = self.seen.lock().unwrap();
        let of_kind = seen.iter().filter(|(kind, _)| kind == what);
        of_kind
            .map(|(_, headers)| headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
            .collect()
    }
}

/// An event as a service spells it.
pub(crate) fn event(sequence: u64, status: &str, progress: u8, stage: Option<&str>) -> String {
    let data = json!({
        "sequence": sequence, "job_id": JOB, "kind": "progress", "status": status, "progress": progress,
        "stage": stage, "attempt": 1,
    });
    format!("id: {sequence}\nevent: progress\ndata: {data}\n\n")
}

pub(crate) fn job_json(status: &str) -> Value {
    json!({
        "job_id": JOB, "model_name": "wan21", "checkpoint": "demo-shapes", "status": status,
        "prompt": "a red circle", "negative_prompt": "", "duration": 2.1, "resolution": "64x64", "fps": 8,
        "num_frames": 17, "steps": 20, "guidance_scale": 3.0, "seed": 42, "format": "h264", "scheduler": "unipc",
        "priority": 5, "created_at": "2026-02-15T10:30:00Z", "started_at": "2026-02-15T10:30:01Z",
        "completed_at": if status == "processing" { Value::Null } else { json!("2026-02-15T10:30:09.5Z") },
        "output_path": null, "download_url": null, "output_bytes": null,
        "error": if status == "failed" { json!("the disk is full") } else { Value::Null },
        "error_code": if status == "failed" { json!("storage_full") } else { Value::Null },
        "progress": 45, "stage": null, "step": null, "stage_steps": null, "attempt": 1, "queue_position": null,
        "warnings": [],
    })
}

fn problem(status: u16, code: &str, detail: &str, field: Option<&str>) -> Response {
    let body = json!({
        "type": format!("https://videosdgx.dev/problems/{code}"), "title": code, "status": status, "detail": detail,
        "code": code, "field": field, "limit": field.map(|_| 60),
    });
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

async fn models(State(play): State<Arc<Play>>, headers: HeaderMap) -> Response {
    play.note("models", &headers);
    if !headers.contains_key("authorization") {
        return problem(401, "unauthorized", "a token is needed", None);
    }
    let model = |id| {
        json!({"id": id, "object": "model", "created": 1, "owned_by": "videosdgx", "checkpoint": "demo-shapes",
               "available": true})
    };
    let data: Vec<Value> = play.models.iter().map(model).collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

async fn loras(State(play): State<Arc<Play>>, headers: HeaderMap) -> Response {
    play.note("loras", &headers);
    let lora = |name: &str, error: Value| {
        json!({"name": name, "bytes": 306_000_000, "keys": 800, "fitting_keys": 800, "layers": 400, "ranks": [32, 64],
               "layout": "comfy", "trigger": "in ink", "title": null, "error": error})
    };
    Json(json!({"loras": [lora("ink", Value::Null), lora("large", json!("it is for another size"))]}))
        .into_response()
}

async fn generate(State(play): State<Arc<Play>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    play.note("generate", &headers);
    if body["fps"] == 61 {
        return problem(400, "invalid_field", "at most 60 frames per second are possible", Some("fps"));
    }
    let mut busy = play.busy.lock().unwrap();
    if *busy > 0 {
        *busy -= 1;
        return problem(503, "overloaded", "come back later", None);
    }
    play.bodies.lock().unwrap().push(body);
    let accepted = json!({
        "job_id": JOB, "status": "queued", "queue_position": 1, "estimated_time_seconds": 6.0, "model_loaded": false,
        "checkpoint": "demo-shapes", "warnings": ["the checkpoint does not know the word \"cat\""],
    });
    (StatusCode::ACCEPTED, Json(accepted)).into_response()
}

async fn job(State(play): State<Arc<Play>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    play.note("job", &headers);
    if id != JOB {
        return problem(404, "job_not_found", "there is no such job", None);
    }
    let mut statuses = play.statuses.lock().unwrap();
    let status = if statuses.len() > 1 { statuses.remove(0) } else { statuses[0] };
    Json(job_json(status)).into_response()
}

async fn jobs(
    State(play): State<Arc<Play>>,
    Query(query): Query<std::collections::HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    play.note("jobs", &headers);
    let next = if query.contains_key("cursor") { Value::Null } else { json!("page-2") };
    let status = query.get("status").map_or("completed", String::as_str);
    Json(json!({"jobs": [job_json(status)], "next_cursor": next})).into_response()
}

async fn cancel(State(play): State<Arc<Play>>, uri: axum::http::Uri, headers: HeaderMap) -> Response {
    play.note(if uri.query() == Some("forget=true") { "forget" } else { "cancel" }, &headers);
    Json(job_json("cancelled")).into_response()
}

async fn events(State(play): State<Arc<Play>>, headers: HeaderMap) -> Response {
    play.note("events", &headers);
    let mut streams = play.streams.lock().unwrap();
    if streams.is_empty() {
        return problem(404, "not_found", "there is no such path", None);
    }
    ([("content-type", "text/event-stream")], Body::from(streams.remove(0))).into_response()
}

async fn download(State(play): State<Arc<Play>>, headers: HeaderMap) -> Response {
    play.note("download", &headers);
    let start = super::range_start(&headers).unwrap_or(0);
    let all = play.video.len();
    if start >= all {
        return problem(416, "range_not_satisfiable", "the range lies outside the file", None);
    }
    let rest = &play.video[start..];
    let status = if start > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let body = match play.cut_after {
        Some(cut) if cut < rest.len() => super::cut_body(rest[..cut].to_vec()),
        _ => Body::from(rest.to_vec()),
    };
    Response::builder()
        .status(status)
        .header("etag", "\"v1\"")
        .header("content-length", rest.len())
        .header("content-range", format!("bytes {start}-{}/{all}", all - 1))
        .body(body)
        .unwrap()
}
