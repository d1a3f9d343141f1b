//! A small service in memory with the part of the native API that the gateway uses, and special paths for tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response, Sse, sse::Event};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures::StreamExt;
use http::header::{ACCEPT_RANGES, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use videosdgx_api::{Code, Job, JobList, JobStatus, Problem};

/// The video's bytes.
pub(crate) const FILE: &[u8] = b"....ftypisom 0123456789 the video";

/// A running service; it stops when dropped.
pub(crate) struct Service {
    url: String,
    task: JoinHandle<()>,
    pub(crate) state: Arc<Inner>,
}

pub(crate) struct Inner {
    name: String,
    pub(crate) jobs: Mutex<Vec<(String, Job)>>,
    pub(crate) keys: Mutex<BTreeMap<String, String>>,
    /// Number of requests, without health checks.
    pub(crate) requests: AtomicUsize,
    /// Headers of the latest request.
    pub(crate) seen: Mutex<HeaderMap>,
    /// Releases `/held`.
    pub(crate) held: watch::Sender<usize>,
    pub(crate) bytes_in: AtomicUsize,
    /// Number of jobs in all answers of `/jobs`.
    pub(crate) jobs_listed: AtomicUsize,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::at(listener, name)
    }

    /// Serves on an existing listener.
    pub(crate) fn at(listener: TcpListener, name: &str) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Inner {
            name: name.to_owned(),
            jobs: Mutex::default(),
            keys: Mutex::default(),
            requests: AtomicUsize::new(0),
            seen: Mutex::default(),
            held: watch::channel(0).0,
            bytes_in: AtomicUsize::new(0),
            jobs_listed: AtomicUsize::new(0),
        });
        let app = Router::new()
            .route("/generate", post(generate))
            .route("/jobs", get(list))
            .route("/jobs/{id}", get(job).delete(remove))
            .route("/jobs/{id}/download", get(download))
            .route("/jobs/{id}/events", get(events))
            .route("/echo", any(echo))
            .route("/upload", post(upload))
            .route("/held", any(held))
            .route("/stream", get(stream))
            .route("/status/{code}", any(status))
            .route("/large", get(large))
            .route("/socket", get(socket))
            .route("/v1/chat/completions", post(chat))
            .route("/v1/completions", post(chat))
            .route("/stream/generate", post(lines))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&state), note))
            .route("/", get(root))
            .route("/health", get(async || Json(json!({"status": "ok"}))))
            .route("/ready", get(ready))
            .route("/openapi.json", get(document))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, task, state }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self, name: &str) -> Vec<String> {
        let seen = self.state.seen.lock().unwrap();
        seen.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    /// Waits until `count` requests are in `/held`.
    pub(crate) async fn holding(&self, count: usize) {
        let mut held = self.state.held.subscribe();
        let wait = held.wait_for(|held| *held >= count);
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap().unwrap();
    }

    /// Releases all requests in `/held`.
    pub(crate) fn release(&self) {
        self.state.held.send_replace(usize::MAX);
    }

    /// Sets the state of a job, as its worker would.
    pub(crate) fn set(&self, id: &str, status: JobStatus) {
        let mut jobs = self.state.jobs.lock().unwrap();
        let (_, job) = jobs.iter_mut().find(|(_, job)| job.job_id.as_str() == id).unwrap();
        job.status = status;
        job.progress = if status == JobStatus::Completed { 100 } else { 40 };
        job.completed_at = status.is_terminal().then(Timestamp::now);
    }
}

async fn note(State(state): State<Arc<Inner>>, request: Request, next: axum::middleware::Next) -> Response {
    state.requests.fetch_add(1, Ordering::SeqCst);
    *state.seen.lock().unwrap() = request.headers().clone();
    next.run(request).await
}

fn problem(code: Code) -> Response {
    let problem = Problem::new(code, "as the service says it");
    let status = StatusCode::from_u16(problem.status).unwrap();
    let mut response = (status, Json(problem)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, "application/problem+json".parse().unwrap());
    response
}

fn owner(headers: &HeaderMap) -> String {
    // The subject, unverified: enough to distinguish callers.
    use base64::Engine as _;
    let token = headers.get(AUTHORIZATION).unwrap().to_str().unwrap();
    let claims =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["sub"].as_str().unwrap().to_owned()
}

async fn root(State(state): State<Arc<Inner>>) -> Json<Value> {
    // A name such as `text-smol` makes it a text service of the checkpoint `smol`.
    let (path, checkpoint) = match state.name.strip_prefix("text-") {
        Some(checkpoint) => ("/v1/chat/completions", checkpoint),
        None => ("/generate", "demo-shapes"),
    };
    let endpoints = json!([{"method": "POST", "path": path, "description": "makes something"}]);
    Json(json!({"name": state.name, "version": "1", "checkpoint": checkpoint, "endpoints": endpoints}))
}

async fn ready() -> (StatusCode, Json<Value>) {
    let loader = json!({"state": "unloaded", "error": null, "error_code": null, "load_seconds": null,
        "idle_seconds": null, "in_use": 0, "auto_unload_minutes": 30.0, "unloads_in_seconds": null, "loads": 0});
    let body = json!({"ready": false, "reason": "the model is not loaded", "accepting_jobs": true, "loader": loader});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body))
}

async fn document(State(state): State<Arc<Inner>>) -> Json<Value> {
    Json(json!({"openapi": "3.1.0", "info": {"title": state.name, "version": "1"}, "paths": {
        "/jobs/{id}": {"get": {"operationId": "getJob", "security": [{"jwt": []}], "responses": {
            "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}}}}}}},
        "components": {"schemas": {"Job": {"type": "object"}}}}))
}

async fn generate(State(state): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: videosdgx_api::GenerateRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(_) => return problem(Code::InvalidBody),
    };
    if request.prompt.is_empty() {
        let problem = Problem::field("prompt", "prompt is 1 to 1000 characters").with_limit(1000);
        return (StatusCode::BAD_REQUEST, Json(problem)).into_response();
    }
    if request.resolution.is_some_and(|size| size.width % 16 != 0) {
        let problem = Problem::field("resolution", "both sides are multiples of 16");
        return (StatusCode::BAD_REQUEST, Json(problem)).into_response();
    }
    let mut jobs = state.jobs.lock().unwrap();
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let mut keys = state.keys.lock().unwrap();
    let known = key.as_ref().and_then(|key| keys.get(key).cloned());
    let id = known.clone().unwrap_or_else(|| format!("{}-{:04}", state.name, jobs.len() + 1));
    if let Some(key) = key {
        keys.insert(key, id.clone());
    }
    if known.is_none() {
        let duration = request.duration.unwrap_or(2.125);
        let resolution = request.resolution.map_or_else(|| "64x64".to_owned(), |size| size.to_string());
        // Generated times, so that no two jobs have the same one.
        let created = Timestamp::from_millisecond(1_770_000_000_000 + 1000 * jobs.len() as i64).unwrap();
        let job = json!({"job_id": id, "model_name": state.name, "checkpoint": "demo-shapes", "status": "queued",
            "prompt": request.prompt, "negative_prompt": "", "duration": duration, "resolution": resolution,
            "fps": 8, "num_frames": 17, "steps": 20, "guidance_scale": 3.0, "seed": request.seed.unwrap_or(1),
            "format": "h264", "scheduler": "unipc", "priority": 5, "created_at": created, "started_at": null,
            "completed_at": null, "output_path": null, "download_url": null, "output_bytes": null, "error": null,
            "error_code": null, "progress": 0, "stage": null, "step": null, "stage_steps": null, "attempt": 0,
            "queue_position": 1, "warnings": request.image.map(|image| format!("image {image}")).into_iter()
                .collect::<Vec<_>>()});
        jobs.push((owner(&headers), serde_json::from_value(job).unwrap()));
    }
    let accepted = json!({"job_id": id, "status": "queued", "queue_position": 1, "estimated_time_seconds": 1.0,
        "model_loaded": false, "checkpoint": "demo-shapes", "warnings": []});
    (StatusCode::ACCEPTED, Json(accepted)).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: usize,
    order: Option<String>,
    after: Option<String>,
    created_before: Option<Timestamp>,
    created_after: Option<Timestamp>,
}

async fn list(
    State(state): State<Arc<Inner>>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Json<JobList> {
    let owner = owner(&headers);
    let jobs = state.jobs.lock().unwrap();
    let mut mine: Vec<&Job> = jobs.iter().filter(|(of, _)| *of == owner).map(|(_, job)| job).collect();
    if query.order.as_deref() != Some("asc") {
        mine.reverse();
    }
    if let Some(after) = query.after {
        let at = mine.iter().position(|job| job.job_id.as_str() == after).unwrap();
        mine.drain(..=at);
    }
    mine.retain(|job| query.created_before.is_none_or(|time| job.created_at < time));
    mine.retain(|job| query.created_after.is_none_or(|time| job.created_at > time));
    state.jobs_listed.fetch_add(mine.len().min(query.limit), Ordering::SeqCst);
    let jobs = mine.iter().take(query.limit).map(|job| (*job).clone()).collect();
    Json(JobList { jobs, next_cursor: (mine.len() > query.limit).then(|| "1".to_owned()) })
}

async fn job(State(state): State<Arc<Inner>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let owner = owner(&headers);
    let jobs = state.jobs.lock().unwrap();
    match jobs.iter().find(|(of, job)| *of == owner && job.job_id.as_str() == id) {
        Some((_, job)) => Json(job.clone()).into_response(),
        None => problem(Code::JobNotFound),
    }
}

#[derive(Deserialize)]
struct Remove {
    #[serde(default)]
    forget: bool,
}

async fn remove(
    State(state): State<Arc<Inner>>,
    Path(id): Path<String>,
    Query(query): Query<Remove>,
    headers: HeaderMap,
) -> Response {
    let owner = owner(&headers);
    let mut jobs = state.jobs.lock().unwrap();
    let Some(at) = jobs.iter().position(|(of, job)| *of == owner && job.job_id.as_str() == id) else {
        return problem(Code::JobNotFound);
    };
    match jobs[at].1.status {
        JobStatus::Queued => jobs[at].1.status = JobStatus::Cancelled,
        // Its worker does not stop by itself here.
        JobStatus::Running if query.forget => return problem(Code::NotCompleted),
        JobStatus::Completed if !query.forget => return problem(Code::NotCompleted),
        _ => {}
    }
    let job = jobs[at].1.clone();
    if query.forget {
        jobs.remove(at);
    }
    Json(job).into_response()
}

#[derive(Deserialize)]
struct DownloadQuery {
    variant: Option<String>,
}

async fn download(
    State(state): State<Arc<Inner>>,
    Path(id): Path<String>,
    Query(query): Query<DownloadQuery>,
    headers: HeaderMap,
) -> Response {
    let owner = owner(&headers);
    let jobs = state.jobs.lock().unwrap();
    let Some((_, job)) = jobs.iter().find(|(of, job)| *of == owner && job.job_id.as_str() == id) else {
        return problem(Code::JobNotFound);
    };
    if job.status != JobStatus::Completed {
        return problem(Code::NotCompleted);
    }
    if let Some(variant) = query.variant {
        return ([(CONTENT_TYPE, "image/webp")], variant).into_response();
    }
    let file = [(CONTENT_TYPE, "video/mp4"), (ACCEPT_RANGES, "bytes")];
    match headers.get(RANGE).map(|range| range.to_str().unwrap()) {
        Some("bytes=4-7") => {
            let range = format!("bytes 4-7/{}", FILE.len());
            (StatusCode::PARTIAL_CONTENT, file, [(CONTENT_RANGE, range)], &FILE[4..8]).into_response()
        }
        Some(_) => {
            let mut response = problem(Code::RangeNotSatisfiable);
            let range = format!("bytes */{}", FILE.len());
            response.headers_mut().insert(CONTENT_RANGE, range.parse().unwrap());
            response
        }
        None => (file, FILE).into_response(),
    }
}

async fn events(Path(id): Path<String>, headers: HeaderMap) -> Response {
    let after = headers.get("last-event-id").map_or("0", |id| id.to_str().unwrap()).to_owned();
    let event = Event::default().id("1").event("state").data(format!("{id} after {after}"));
    Sse::new(futures::stream::iter([Ok::<_, std::convert::Infallible>(event)])).into_response()
}

/// Returns the request as JSON.
async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let said = json!({"method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body)});
    (
        [
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=1"),
            ("x-kept", "1"),
            ("access-control-allow-origin", "*"),
        ],
        Json(said),
    )
        .into_response()
}

async fn upload(State(state): State<Arc<Inner>>, request: Request) -> String {
    let mut body = request.into_body().into_data_stream();
    let mut total = 0;
    while let Some(Ok(chunk)) = body.next().await {
        total += chunk.len();
        state.bytes_in.store(total, Ordering::SeqCst);
    }
    total.to_string()
}

async fn held(State(state): State<Arc<Inner>>) -> &'static str {
    let mut held = state.held.subscribe();
    state.held.send_modify(|held| *held = held.saturating_add(1));
    let _ = held.wait_for(|held| *held == usize::MAX).await;
    "let go"
}

/// Returns the request as JSON, or as a stream whose second event waits for `/held` to be released.
async fn chat(State(state): State<Arc<Inner>>, headers: HeaderMap, body: String) -> Response {
    let asked: Value = serde_json::from_str(&body).unwrap_or_default();
    match asked["prompt"].as_str() {
        Some("problem") => return problem(Code::QueueFull),
        Some("hang up") => panic!("this ends the connection"),
        _ => {}
    }
    if asked["stream"] == true {
        return stream(State(state)).await;
    }
    let length = headers.get("content-length").map(|length| length.to_str().unwrap().to_owned());
    Json(json!({"service": state.name, "body": body, "length": length})).into_response()
}

/// Echoes the body while it arrives.
async fn lines(request: Request) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], request.into_body()).into_response()
}

/// One event now, the next when `/held` is released.
async fn stream(State(state): State<Arc<Inner>>) -> Response {
    let held = state.held.subscribe();
    let events = futures::stream::unfold((held, 0), |(mut held, count)| async move {
        match count {
            0 => {}
            1 => drop(held.wait_for(|held| *held == usize::MAX).await),
            _ => return None,
        }
        let event = Event::default().id(count.to_string()).data(format!("event {count}"));
        Some((Ok::<_, std::convert::Infallible>(event), (held, count + 1)))
    });
    Sse::new(events).into_response()
}

async fn status(Path(code): Path<u16>) -> Response {
    let code = StatusCode::from_u16(code).unwrap();
    if code == StatusCode::UPGRADE_REQUIRED {
        return (code, [(http::header::UPGRADE, "websocket"), (http::header::CONNECTION, "upgrade")])
            .into_response();
    }
    code.into_response()
}

async fn large() -> Response {
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let chunks = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone())).take(1024);
    Body::from_stream(chunks).into_response()
}

/// Switches protocols and echoes bytes.
async fn socket(request: Request) -> Response {
    let mut request = request;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
        let mut buffer = [0; 64];
        loop {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            match io.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => io.write_all(&buffer[..count]).await.unwrap(),
            }
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "websocket")]).into_response()
}
