//! Shutdown: new requests are refused, streams may finish, the others end with an error.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::support::{TestService, TextClient as _, chat, text_of};

#[actix_web::test]
async fn streams_finish_within_the_grace_time_and_new_requests_are_refused() {
    let service = TestService::start_with(|test| test.backend.step_time = Duration::from_millis(5)).await;
    let tester = service.tester();
    let text = "x".repeat(100);
    let mut socket = tester.socket().await;
    let mut idle = tester.socket().await;
    socket.say(json!({"type": "generate", "request_id": "a", "prompt": "abc", "max_tokens": 100})).await;
    socket.hear_until("token").await;
    let body = chat(&format!("say {text}"), json!({"stream": true}));
    let mut stream = tester.request(Method::POST, "/v1/chat/completions").json(&body).send().await.unwrap();
    stream.chunk().await.unwrap().unwrap();
    let drain = actix_web::rt::spawn(service.running.drain());
    assert_eq!(idle.closed().await, CloseCode::Away);
    assert_eq!(tester.chat("say a", json!({})).await.error(503).1, "draining");
    assert_eq!(tester.post("/stream/generate", json!({"prompt": "a"})).await.status, 503);
    socket.say(json!({"type": "generate", "request_id": "b", "prompt": "abc"})).await;
    let heard = socket.hear_until("complete").await;
    let refused = heard.iter().find(|message| message["request_id"] == "b").unwrap();
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["recoverable"]),
        (&json!("draining"), &json!(true))
    );
    assert!(text_of(&heard).len() > 90, "the stream continued to its end");
    assert_eq!(socket.closed().await, CloseCode::Away);
    let mut rest = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        rest.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(rest.trim_end().ends_with("data: [DONE]"), "{rest}");
    assert!(drain.await.unwrap());
    assert!(tester.request(Method::GET, "/health").send().await.is_err(), "it has stopped");
}

#[actix_web::test]
async fn streams_that_exceed_the_grace_time_end_with_an_error() {
    let service = TestService::start_with(|test| {
        test.config.drain = Duration::from_millis(200);
        test.backend.step_time = Duration::from_millis(5);
        test.backend.max_context = 1 << 20;
    })
    .await;
    let tester = service.tester();
    let mut socket = tester.socket().await;
    socket.say(json!({"type": "generate", "prompt": "abc", "max_tokens": 100_000})).await;
    socket.hear_until("token").await;
    let drain = actix_web::rt::spawn(service.running.drain());
    let heard = socket.hear_until("complete").await;
    let error = heard.iter().find(|message| message["type"] == "error").unwrap();
    assert_eq!(error["error"]["code"], "draining");
    assert_eq!(socket.closed().await, CloseCode::Away);
    assert!(drain.await.unwrap());
}

#[actix_web::test]
async fn a_stream_whose_client_is_lost_does_not_delay_the_shutdown() {
    let service = TestService::start_with(|test| {
        test.config.drain = Duration::from_secs(60);
        test.backend.step_time = Duration::from_millis(2);
        test.backend.max_context = 1 << 20;
    })
    .await;
    let tester = service.tester();
    for lost_before in [true, false] {
        let mut socket = tester.socket().await;
        let asked = json!({"type": "generate", "request_id": "r", "resumable": true, "prompt": "abc", "max_tokens": 100_000});
        socket.say(asked).await;
        socket.hear_until("token").await;
        if lost_before {
            drop(socket);
            while tester.engine().await["kept_streams"] != 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } else {
            let drain = actix_web::rt::spawn(service.running.drain());
            while tester.get("/ready").await.json()["accepting_jobs"] == true {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(socket);
            let over = tokio::time::timeout(Duration::from_secs(20), drain).await;
            assert!(over.unwrap().unwrap());
            return;
        }
    }
}

/// A generation that is silent (here while the model loads) is known to be open by its pings: a gateway that shuts down cuts connections
/// whose service is silent.
#[actix_web::test]
async fn a_silent_generation_is_heard_of_and_an_idle_connection_is_not() {
    let service = TestService::start_with(|test| {
        test.backend.load_time = Duration::from_secs(5);
        test.settings.socket_idle = Duration::from_secs(90);
    })
    .await;
    let tester = service.tester();
    let mut idle = tester.socket().await;
    let mut socket = tester.socket().await;
    socket.say(json!({"type": "generate", "prompt": "abc", "max_tokens": 2})).await;
    let (mut pings, mut last, mut longest) = (0, Instant::now(), Duration::ZERO);
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(30), socket.socket.next()).await.unwrap();
        longest = longest.max(last.elapsed());
        last = Instant::now();
        match frame.unwrap().unwrap() {
            Message::Ping(_) => pings += 1,
            Message::Text(text) if text.contains("\"complete\"") => break,
            _ => {}
        }
    }
    assert!(pings >= 2, "{pings} pings");
    assert!(longest < Duration::from_millis(3500), "silent for {longest:?}");
    let heard = tokio::time::timeout(Duration::from_millis(2500), idle.socket.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}
