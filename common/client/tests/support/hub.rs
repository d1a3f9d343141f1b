//! A Hugging Face-compatible endpoint, and the CDN that it redirects large files to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

/// What it has and what it saw.
pub(crate) struct FakeHub {
    /// Path → content; `.safetensors` lie in large-file storage.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Entries added to the listing as they are.
    pub(crate) extra: Vec<Value>,
    /// Content sent instead of the listed one.
    pub(crate) corrupt: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Cut each answer of large files after so many bytes.
    pub(crate) cut_after: Mutex<Option<usize>>,
    /// Token that the endpoint wants.
    pub(crate) token: Option<&'static str>,
    /// Where large files are: another origin.
    pub(crate) cdn: Mutex<String>,
    /// `(host, path, authorization, range)` of each request.
    pub(crate) seen: Mutex<Vec<Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at_cdn: bool,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<usize>,
}

impl FakeHub {
    pub(crate) fn wan() -> Self {
        let mut files = BTreeMap::new();
        for (path, size) in [
            ("README.md", 500),
            ("assets/logo.png", 900),
            ("model_index.json", 300),
            ("scheduler/scheduler_config.json", 200),
            ("tokenizer/spiece.model", 4_000),
            ("transformer/config.json", 400),
            ("transformer/diffusion_pytorch_model-00001-of-00002.safetensors", 400_000),
            ("transformer/diffusion_pytorch_model-00002-of-00002.safetensors", 150_000),
            ("vae/diffusion_pytorch_model.safetensors", 90_000),
        ] {
            files.insert(path.to_owned(), super::noise(size, path.len() as u64));
        }
        Self {
            files,
            extra: vec![json!({"type": "directory", "oid": "0", "size": 0, "path": "vae"})],
            corrupt: Mutex::default(),
            cut_after: Mutex::default(),
            token: None,
            cdn: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Starts endpoint and CDN; answers the endpoint's address.
    pub(crate) async fn serve(self) -> (Arc<Self>, String) {
        let hub = Arc::new(self);
        let cdn = Router::new().route("/blobs/{*path}", get(blob)).with_state(hub.clone());
        *hub.cdn.lock().unwrap() = format!("http://{}", super::serve(cdn).await);
        let endpoint = Router::new()
            .route("/api/models/Wan-AI/{name}/tree/{revision}", get(tree))
            .route("/Wan-AI/{name}/resolve/{revision}/{*path}", get(resolve))
            .with_state(hub.clone());
        let address = super::serve(endpoint).await;
        (hub, format!("http://{address}"))
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn note(&self, at_cdn: bool, path: &str, headers: &HeaderMap) {
        let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let range = super::range_start(headers);
        self.seen.lock().unwrap().push(Seen { at_cdn, path: path.to_owned(), authorization, range });
    }

    fn refuses(&self, headers: &HeaderMap) -> bool {
        let wanted = self.token.map(|token| format!("Bearer {token}"));
        wanted.is_some_and(|wanted| headers.get("authorization").is_none_or(|value| value != wanted.as_str()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(path: &str, content: &[u8]) -> Value {
    let mut blob = format!("blob {}\0", content.len()).into_bytes();
    blob.extend_from_slice(content);
    let mut entry = json!({
        "type": "file", "path": path, "size": content.len(),
        "oid": hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob).as_ref()),
    });
    if path.ends_with(".safetensors") {
        entry["oid"] = json!("5d1f30ae5c28b5bdc2a2a7a7d1a4e0e7d0d6c9b1");
        entry["lfs"] =
            json!({"oid": hex(digest(&SHA256, content).as_ref()), "size": content.len(), "pointerSize": 135});
    }
    entry
}

/// Two pages, to be followed by `Link`.
async fn tree(
    State(hub): State<Arc<FakeHub>>,
    Path((name, revision)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    hub.note(false, "tree", &headers);
    if hub.refuses(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if revision != "main" || query.get("recursive").is_none_or(|value| value != "true") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut entries: Vec<Value> = hub.files.iter().map(|(path, content)| entry(path, content)).collect();
    entries.extend(hub.extra.clone());
    let second = entries.split_off(entries.len() / 2);
    if query.contains_key("cursor") {
        return Json(second).into_response();
    }
    let next = format!("</api/models/Wan-AI/{name}/tree/main?recursive=true&cursor=abc>; rel=\"next\"");
    ([("link", next)], Json(entries)).into_response()
}

async fn resolve(
    State(hub): State<Arc<FakeHub>>,
    Path((_, _, path)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    hub.note(false, &path, &headers);
    if hub.refuses(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if path.ends_with(".safetensors") {
        let target = format!("{}/blobs/{path}?signature=canary-signature", hub.cdn.lock().unwrap());
        return (StatusCode::FOUND, [("location", target)]).into_response();
    }
    content(&hub, &path, &headers, None)
}

async fn blob(State(hub): State<Arc<FakeHub>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    hub.note(true, &path, &headers);
    let cut = *hub.cut_after.lock().unwrap();
    content(&hub, &path, &headers, cut)
}

fn content(hub: &FakeHub, path: &str, headers: &HeaderMap, cut: Option<usize>) -> Response {
    let corrupt = hub.corrupt.lock().unwrap();
    let Some(content) = corrupt.get(path).or_else(|| hub.files.get(path)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let start = super::range_start(headers).unwrap_or(0);
    let rest = &content[start.min(content.len())..];
    let body = match cut {
        Some(cut) if cut < rest.len() => super::cut_body(rest[..cut].to_vec()),
        _ => Body::from(rest.to_vec()),
    };
    let answer = Response::builder().header("content-length", rest.len());
    let answer = if start > 0 {
        let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
        answer.status(StatusCode::PARTIAL_CONTENT).header("content-range", range)
    } else {
        answer.status(StatusCode::OK)
    };
    answer.body(body).unwrap()
}
