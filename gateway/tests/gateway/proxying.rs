//! Native paths: what is forwarded, changed and refused.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use reqwest::{Body, Method};
use serde_json::Value;

use crate::raw::Raw;
use crate::service::{FILE, Service};
use crate::test_gateway::TestGateway;

async fn echo(
    gateway: &TestGateway,
    request: reqwest::RequestBuilder,
) -> (reqwest::header::HeaderMap, Value) {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{}", gateway.address);
    let headers = response.headers().clone();
    (headers, response.json().await.unwrap())
}

fn value(said: &Value, name: &str) -> Option<String> {
    let headers = said["headers"].as_array().unwrap();
    headers.iter().find(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn method_path_query_body_and_identity_arrive_unchanged() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let token = gateway.token("ada", videosdgx_auth::Scopes::all());
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let request = gateway
            .client
            .request(method.clone(), gateway.url("/models/fake/echo?a=1&b=%20x"))
            .bearer_auth(&token)
            .header("x-mine", "kept")
            .body("the body");
        let (_, said) = echo(&gateway, request).await;
        assert_eq!(said["method"], method.as_str());
        assert_eq!(said["uri"], "/echo?a=1&b=%20x");
        assert_eq!(said["body"], "the body");
        assert_eq!(value(&said, "authorization"), Some(format!("Bearer {token}")));
        assert_eq!(value(&said, "x-mine").as_deref(), Some("kept"));
        assert_eq!(value(&said, "content-length").as_deref(), Some("8"));
        assert_eq!(value(&said, "host").as_deref(), Some(service.url().trim_start_matches("http://")));
    }
    let (_, said) = echo(&gateway, gateway.get("/models/fake/echo")).await;
    assert_eq!((said["body"].as_str(), value(&said, "content-length")), (Some(""), None));
}

#[tokio::test]
async fn hop_by_hop_and_forwarding_headers_are_not_forwarded() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let request = gateway
        .get("/models/fake/echo")
        .header("connection", "x-secret, authorization")
        .header("x-secret", "1")
        .header("te", "trailers")
        .header("proxy-authorization", "Basic x")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-host", "evil")
        .header("forwarded", "for=6.6.6.6");
    let (headers, said) = echo(&gateway, request).await;
    for gone in ["x-secret", "te", "proxy-authorization", "x-forwarded-host", "forwarded", "connection"] {
        assert_eq!(value(&said, gone), None, "{gone}");
    }
    assert_eq!(value(&said, "x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert!(value(&said, "authorization").is_some(), "identity cannot be stripped by the client");
    for gone in ["x-hop", "keep-alive", "access-control-allow-origin"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(headers["x-kept"], "1");
}

#[tokio::test]
async fn request_ids_are_kept_when_valid_and_generated_otherwise() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let (headers, said) =
        echo(&gateway, gateway.get("/models/fake/echo").header("x-request-id", "my-id.1")).await;
    assert_eq!(headers["x-request-id"], "my-id.1");
    assert_eq!(value(&said, "x-request-id").as_deref(), Some("my-id.1"));
    for bad in ["a b", "{\"x\":1}", &"x".repeat(65)] {
        let (headers, said) =
            echo(&gateway, gateway.get("/models/fake/echo").header("x-request-id", bad)).await;
        let made = headers["x-request-id"].to_str().unwrap();
        assert_ne!(made, bad);
        assert_eq!(made.len(), 32);
        assert_eq!(value(&said, "x-request-id").as_deref(), Some(made));
    }
    let response = gateway.get("/models/none/x").header("x-request-id", "r-7").send().await.unwrap();
    assert_eq!(response.status(), 404);
    let problem: Value = response.json().await.unwrap();
    assert_eq!((&problem["request_id"], &problem["code"]), (&"r-7".into(), &"model_not_found".into()));
}

#[tokio::test]
async fn events_pass_before_the_stream_ends() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let response = gateway.get("/models/fake/stream").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.bytes_stream();
    let first = tokio::time::timeout(Duration::from_secs(5), body.next()).await.expect("unbuffered");
    assert_eq!(first.unwrap().unwrap(), "id: 0\ndata: event 0\n\n");
    service.release();
    assert_eq!(body.next().await.unwrap().unwrap(), "id: 1\ndata: event 1\n\n");
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn ranges_and_their_refusals_pass() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let body = r#"{"prompt":"p"}"#;
    gateway.post("/models/fake/generate").body(body).send().await.unwrap();
    let path = "/models/fake/jobs/fake-0001/download";
    assert_eq!(gateway.get(path).send().await.unwrap().status(), 409);
    service.set("fake-0001", videosdgx_api::JobStatus::Completed);
    let part = gateway.get(path).header("range", "bytes=4-7").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 4-7/{}", FILE.len()));
    assert_eq!(part.bytes().await.unwrap(), &FILE[4..8]);
    let beyond = gateway.get(path).header("range", "bytes=1000-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);
    let whole = gateway.get(path).send().await.unwrap();
    assert_eq!(whole.headers()["content-length"], FILE.len().to_string());
    assert_eq!(whole.bytes().await.unwrap(), FILE);
    let head = gateway.request(Method::HEAD, path).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "33"));
}

#[tokio::test]
async fn large_bodies_are_streamed_both_ways() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::with(vec![crate::test_gateway::model("fake", &[&service])], |config| {
        config.limits.max_body_bytes = 1 << 30;
    })
    .await;
    let chunk = bytes(64 * 1024);
    let (sender, receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        Some((Ok::<_, std::io::Error>(receiver.recv().await?), receiver))
    });
    let sending = tokio::spawn(gateway.post("/models/fake/upload").body(Body::wrap_stream(stream)).send());
    // The first part is at the service long before the last is sent.
    sender.send(chunk.clone()).await.unwrap();
    gateway
        .eventually("the first part arrives", async || service.state.bytes_in.load(Ordering::SeqCst) > 0)
        .await;
    for _ in 1..1024 {
        sender.send(chunk.clone()).await.unwrap();
    }
    drop(sender);
    let answer = sending.await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), (1024 * chunk.len()).to_string());

    let mut body = gateway.get("/models/fake/large").send().await.unwrap().bytes_stream();
    let mut total = 0;
    while let Some(part) = body.next().await {
        total += part.unwrap().len();
    }
    assert_eq!(total, 64 * 1024 * 1024);
}

fn bytes(count: usize) -> Vec<u8> {
    vec![b'y'; count]
}

#[tokio::test]
async fn redirects_and_errors_of_the_service_pass_unchanged() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    for status in [204, 301, 304, 400, 418, 429, 500, 503] {
        let response = gateway.get(&format!("/models/fake/status/{status}")).send().await.unwrap();
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn ambiguous_paths_reach_no_service() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let token = gateway.token("ada", videosdgx_auth::Scopes::all());
    for path in [
        "/models/fake/docs/../unload",
        "/models/fake/%2e%2e/echo",
        "/models/fake//echo",
        "/models/fake/a%2fb",
    ] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        ))
        .await;
        let answer = raw.read_to_close(Duration::from_secs(5)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    assert_eq!(service.requests(), 0);
}

#[tokio::test]
async fn websockets_pass_by_upgrade_and_other_protocols_do_not() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let token = gateway.token("ada", videosdgx_auth::Scopes::all());
    let mut raw = Raw::connect(gateway.address).await;
    let head = format!("GET /models/fake/socket HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    raw.send(format!("{head}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")).await;
    let answer = raw.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    for text in ["ping", "pong"] {
        raw.send(text).await;
        assert_eq!(raw.read_until(text).await, text);
    }
    drop(raw);
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(format!(
        "{}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        head.replace("socket", "echo")
    ))
    .await;
    let answer = raw.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(service.seen("upgrade").is_empty());
}
