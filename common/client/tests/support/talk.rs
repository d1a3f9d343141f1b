//! A gateway that says prepared answers.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How a prepared answer ends.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Ending {
    /// With usage and `[DONE]`.
    Whole,
    /// With an error of the server.
    Error,
    /// The connection breaks.
    Cut,
    /// Never.
    Hanging,
    /// It does not even begin.
    Refused,
}

/// What it says, what it was asked, and how many of its answers are under way.
pub(crate) struct Talk {
    answers: Mutex<Vec<(&'static [&'static str], Ending)>>,
    pub(crate) asked: Mutex<Vec<Value>>,
    pub(crate) under_way: watch::Sender<usize>,
}

impl Talk {
    pub(crate) async fn serve(answers: &[(&'static [&'static str], Ending)]) -> (Arc<Self>, String) {
        let talk = Arc::new(Self {
            answers: Mutex::new(answers.to_vec()),
            asked: Mutex::default(),
            under_way: watch::channel(0).0,
        });
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/chat/completions", post(chat))
            .with_state(Arc::clone(&talk));
        let address = super::serve(router).await;
        (talk, format!("http://{address}"))
    }

    /// The conversation of question `number`, as `role: content`.
    pub(crate) fn messages(&self, number: usize) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let messages = asked[number]["messages"].as_array().unwrap();
        let line = |message: &Value| {
            format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap())
        };
        messages.iter().map(line).collect()
    }

    /// Waits until `count` answers are under way.
    pub(crate) async fn saying(&self, count: usize) {
        let mut under_way = self.under_way.subscribe();
        let wait = under_way.wait_for(|under_way| *under_way == count);
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.unwrap().unwrap();
    }
}

async fn models() -> Json<Value> {
    let model = |id, kind| {
        json!({"id": id, "object": "model", "created": 1, "owned_by": "videosdgx", "checkpoint": "smollm2-135m",
               "available": true, "kind": kind})
    };
    let data = [model("wan21", "video"), model("glm47", "text"), model("qwen3-4b", "text")];
    Json(json!({"object": "list", "data": data}))
}

fn chunk(delta: Value, finish: Value) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "qwen3-4b",
        "system_fingerprint": null, "usage": null,
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]});
    format!("data: {chunk}\n\n")
}

/// Counts an answer for as long as somebody listens to it.
struct UnderWay(Arc<Talk>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|under_way| *under_way -= 1);
    }
}

async fn chat(State(talk): State<Arc<Talk>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    assert!(headers.contains_key("authorization"));
    talk.asked.lock().unwrap().push(body);
    let (pieces, ending) = talk.answers.lock().unwrap().remove(0);
    if ending == Ending::Refused {
        let error = json!({"error": {"message": "temperature is 0 to 2", "type": "invalid_request_error",
            "param": "temperature", "code": "invalid_field"}});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    events.extend(pieces.iter().map(|piece| chunk(json!({"content": piece}), Value::Null)));
    match ending {
        Ending::Whole => {
            events.push(chunk(json!({}), json!("stop")));
            let details = json!({"prompt_tokens": 9, "completion_tokens": pieces.len(), "total_tokens": 9 + pieces.len(),
                "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}});
            events.push(format!(
                "data: {}\n\n: a comment\n\ndata: [DONE]\n\n",
                json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "qwen3-4b",
                    "system_fingerprint": null, "usage": details, "choices": []})
            ));
        }
        Ending::Error => {
            let passing = json!({"type": "error", "error": {"code": "step_failed", "message": "tried again", "recoverable": true}});
            let last = json!({"type": "error", "error": {"code": "memory_limit_exceeded",
                "message": "no memory for the cache", "recoverable": false}});
            events.push(format!("data: {passing}\n\ndata: {last}\n\n"));
        }
        Ending::Cut | Ending::Hanging | Ending::Refused => {}
    }
    talk.under_way.send_modify(|under_way| *under_way += 1);
    let under_way = UnderWay(Arc::clone(&talk));
    let said = futures::stream::iter(events.into_iter().map(Ok::<_, std::io::Error>));
    let last = futures::stream::once(async move {
        let _under_way = under_way;
        if ending == Ending::Hanging {
            std::future::pending::<()>().await;
        }
        Ok(String::new())
    });
    ([("content-type", "text/event-stream; charset=utf-8")], Body::from_stream(said.chain(last)))
        .into_response()
}
