//! Text completions, routed by the `model` in the body.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use videosdgx_auth::Scope;
use videosdgx_gateway::ModelConfig;

use crate::raw::Raw;
use crate::service::Service;
use crate::test_gateway::{TestGateway, model};

const CHAT: &str = "/v1/chat/completions";

/// Two text models with checkpoints of their own and a video model, all health-checked.
async fn three_models() -> ([Service; 3], TestGateway) {
    let services =
        [Service::start("text-smol").await, Service::start("text-large").await, Service::start("fake").await];
    let models =
        ["one", "two", "film"].iter().zip(&services).map(|(name, service)| model(name, &[service])).collect();
    let gateway = TestGateway::with(models, |config| config.limits.max_body_bytes = 100_000).await;
    known(&gateway, 3).await;
    (services, gateway)
}

/// Waits until the kind of `count` models is known.
async fn known(gateway: &TestGateway, count: usize) {
    gateway
        .eventually("all kinds are known", async || {
            let models: Value = gateway.get("/v1/models").send().await.unwrap().json().await.unwrap();
            models["data"].as_array().unwrap().iter().filter(|model| !model["kind"].is_null()).count()
                == count
        })
        .await;
}

async fn complete(gateway: &TestGateway, body: &str) -> Response {
    gateway.post(CHAT).header("content-type", "application/json").body(body.to_owned()).send().await.unwrap()
}

async fn refused(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    (status, body["error"].clone())
}

#[tokio::test]
async fn requests_reach_their_model_unchanged() {
    let (_services, gateway) = three_models().await;
    let models: Value = gateway.get("/v1/models").send().await.unwrap().json().await.unwrap();
    let kinds: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| &model["kind"]).collect();
    assert_eq!(kinds, ["text", "text", "video"]);
    for (name, service) in
        [("one", "text-smol"), ("two", "text-large"), ("smol", "text-smol"), ("large", "text-large")]
    {
        let body = format!(
            "  {{\"messages\" : [ {{\"content\":\"h\\u00e9\"}} ],\n \"model\":\"{name}\", \"x\": 1.0}} "
        );
        let answer: Value = complete(&gateway, &body).await.json().await.unwrap();
        assert_eq!(answer["service"], service);
        assert_eq!(answer["body"], body.as_str());
        assert_eq!(answer["length"], body.len().to_string());
    }
    let answer =
        gateway.post("/v1/completions").json(&json!({"model": "one", "prompt": "a"})).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn unknown_models_and_wrong_kinds_are_refused_by_name() {
    let (services, gateway) = three_models().await;
    let (status, error) = refused(complete(&gateway, r#"{"model": "nobody"}"#).await).await;
    assert_eq!(
        (status.as_u16(), &error["code"], &error["param"]),
        (404, &json!("model_not_found"), &json!("model"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("one, two") && !message.contains("film"), "{message}");

    for (body, words) in [
        (r#"{"model": "film"}"#, "film makes videos"),
        (r#"{"model": "demo-shapes"}"#, "film makes videos"),
        (r#"{"messages": []}"#, "one, two"),
        (r#"{"model": 7}"#, "model must be a string"),
        ("[]", "not a JSON object"),
        ("nonsense", "not a JSON object"),
        ("", "not a JSON object"),
        (r#"{"model": "one"} {"#, "not a JSON object"),
        (r#"{"model": "one", "model": "two"}"#, "duplicate"),
    ] {
        let (status, error) = refused(complete(&gateway, body).await).await;
        assert_eq!(status, 400, "{body}");
        assert!(error["message"].as_str().unwrap().contains(words), "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let (status, error) =
        refused(complete(&gateway, &format!(r#"{{"model": "{}"}}"#, "x".repeat(100_000))).await).await;
    assert_eq!((status.as_u16(), &error["code"]), (413, &json!("body_too_large")));
    let (status, error) = refused(
        gateway.post("/v1/videos").json(&json!({"model": "one", "prompt": "a"})).send().await.unwrap(),
    )
    .await;
    assert_eq!(status, 400);
    assert!(error["message"].as_str().unwrap().contains("one makes text"), "{error}");
    let reader =
        gateway.as_of("bob", Scope::Read, reqwest::Method::POST, CHAT).body("{}").send().await.unwrap();
    assert_eq!(refused(reader).await.0, 403);
    assert_eq!(gateway.client.post(gateway.url(CHAT)).body("{}").send().await.unwrap().status(), 401);
    assert!(services.iter().all(|service| service.requests() == 0));
}

#[tokio::test]
async fn an_ambiguous_checkpoint_is_refused_and_a_single_text_model_is_the_default() {
    let services = [Service::start("text-smol").await, Service::start("text-smol").await];
    let models = vec![model("one", &[&services[0]]), model("two", &[&services[1]])];
    let gateway = TestGateway::with(models, |_| {}).await;
    known(&gateway, 2).await;
    let (status, error) = refused(complete(&gateway, r#"{"model": "smol"}"#).await).await;
    assert_eq!((status.as_u16(), &error["param"]), (400, &json!("model")));
    assert!(error["message"].as_str().unwrap().contains("several"), "{error}");

    let film = Service::start("fake").await;
    let gateway =
        TestGateway::with(vec![model("film", &[&film]), model("one", &[&services[0]])], |_| {}).await;
    known(&gateway, 2).await;
    assert_eq!(complete(&gateway, r#"{"model": "one"}"#).await.status(), 200);
    // As in OpenAI's API, a model must be named even if there is only one.
    for body in ["{}", r#"{"model": null}"#] {
        let (status, error) = refused(complete(&gateway, body).await).await;
        assert_eq!((status.as_u16(), &error["param"]), (400, &json!("model")), "{body}");
        assert!(error["message"].as_str().unwrap().contains("text is made by one"), "{error}");
    }
}

#[tokio::test]
async fn tokens_are_streamed_and_finish_while_the_gateway_drains() {
    let service = Service::start("text-smol").await;
    let mut gateway = TestGateway::with(vec![model("one", &[&service])], |_| {}).await;
    let mut stream = complete(&gateway, r#"{"model": "one", "stream": true}"#).await.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first, "id: 0\ndata: event 0\n\n");
    gateway.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!gateway.running.as_ref().unwrap().is_finished());
    service.release();
    assert_eq!(stream.next().await.unwrap().unwrap(), "id: 1\ndata: event 1\n\n");
    assert!(stream.next().await.is_none(), "no word of the gateway's own in between");
    tokio::time::timeout(Duration::from_secs(5), gateway.running.take().unwrap()).await.unwrap().unwrap();
}

#[tokio::test]
async fn streamed_prompts_are_answered_while_the_body_is_open() {
    let service = Service::start("text-smol").await;
    let gateway = TestGateway::with(vec![model("one", &[&service])], |config| {
        config.limits.body_window_seconds = 0.05;
    })
    .await;
    let (lines, body) = tokio::sync::mpsc::channel::<&'static str>(1);
    let body = futures::stream::unfold(body, |mut body| async move {
        Some((Ok::<_, std::io::Error>(body.recv().await?), body))
    });
    lines.send("first\n").await.unwrap();
    let response = gateway
        .post("/models/one/stream/generate")
        .header("content-type", "application/x-ndjson")
        .body(reqwest::Body::wrap_stream(body))
        .send()
        .await
        .unwrap();
    let mut answers = response.bytes_stream();
    assert_eq!(answers.next().await.unwrap().unwrap(), "first\n");
    // Long after the timeout of an ordinary body.
    tokio::time::sleep(Duration::from_millis(150)).await;
    lines.send("second\n").await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), "second\n");
    drop(lines);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn requests_that_never_arrived_are_retried_and_nothing_is_sent_twice() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let services = [Service::start("text-smol").await, Service::start("text-smol").await];
    let mut upstreams = model("one", &[&services[0], &services[1]]).upstreams;
    upstreams.insert(0, nobody);
    let gateway = TestGateway::with(vec![ModelConfig { name: "one".into(), upstreams }], |_| {}).await;
    for _ in 0..6 {
        assert_eq!(complete(&gateway, r#"{"model": "one"}"#).await.status(), 200);
    }
    let requests = |_: ()| services.iter().map(Service::requests).sum::<usize>();
    assert_eq!(requests(()), 6);
    let (status, _) = refused(complete(&gateway, r#"{"model": "one", "prompt": "hang up"}"#).await).await;
    assert_eq!((status.as_u16(), requests(())), (502, 7), "one attempt, though another service is there");
}

#[tokio::test]
async fn errors_of_a_service_have_openais_format() {
    let service = Service::start("text-smol").await;
    let gateway = TestGateway::with(vec![model("one", &[&service])], |_| {}).await;
    let response = complete(&gateway, r#"{"model": "one", "prompt": "problem"}"#).await;
    let (status, error) = refused(response).await;
    assert_eq!(
        (status.as_u16(), &error["code"], &error["type"]),
        (429, &json!("queue_full"), &json!("rate_limit_error"))
    );
    let native = gateway.client.post(gateway.url("/models/one/v1/chat/completions")).send().await.unwrap();
    let (status, error) = refused(native).await;
    assert_eq!((status.as_u16(), &error["type"]), (401, &json!("authentication_error")));
}

#[tokio::test]
async fn buffered_bodies_are_limited_in_total() {
    let service = Service::start("text-smol").await;
    let gateway = TestGateway::with(vec![model("one", &[&service])], |config| {
        config.limits.max_body_bytes = 128 * 1024;
        config.limits.max_buffered_bytes = 128 * 1024;
        // The unfinished body stays, however busy the machine is.
        config.limits.body_window_seconds = 60.0;
    })
    .await;
    let token = gateway.token("eve", [Scope::Generate]);
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let mut half_said = Raw::connect(gateway.address).await;
    let half = format!(r#"{{"model": "one", "x": "{}"#, "x".repeat(40 * 1024));
    half_said.send(format!("{head}Content-Length: 50000\r\n\r\n{half}")).await;
    let large = format!(r#"{{"model": "one", "x": "{}"}}"#, "x".repeat(100 * 1024));
    gateway
        .eventually("there is no room for a second one", async || {
            let response = complete(&gateway, &large).await;
            response.status() == 503 && response.headers().contains_key("retry-after")
        })
        .await;
    assert_eq!(complete(&gateway, r#"{"model": "one"}"#).await.status(), 200, "a small one fits");
    drop(half_said);
    gateway
        .eventually("its room is free again", async || complete(&gateway, &large).await.status() == 200)
        .await;
}

#[tokio::test]
async fn bodies_that_are_held_are_shared_between_principals() {
    let service = Service::start("text-smol").await;
    let gateway = TestGateway::with(vec![model("one", &[&service])], |config| {
        config.limits.max_body_bytes = 1 << 20;
        config.limits.max_buffered_bytes = 4 << 20;
        config.limits.max_buffered_bytes_per_principal = 2 << 20;
        config.limits.body_window_seconds = 1.5;
    })
    .await;
    let token = gateway.token("greedy", [Scope::Generate]);
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let mut unfinished = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect(gateway.address).await;
        let body = format!(r#"{{"model": "one", "x": "{}"#, "x".repeat((1 << 20) - 600));
        raw.send(format!("{head}Content-Length: {}\r\n\r\n{body}", (1 << 20) - 1)).await;
        unfinished.push(raw);
    }
    let large = format!(r#"{{"model": "one", "x": "{}"}}"#, "x".repeat(500_000));
    let answered = async || complete(&gateway, &large).await.status().as_u16();
    for _ in 0..20 {
        assert_eq!(answered().await, 200, "another principal has its share");
    }
    // Two hold what their principal may, two exceed it, and those that rest are too slow.
    let started = std::time::Instant::now();
    let mut statuses = Vec::new();
    for mut raw in unfinished {
        let answer = raw.read_to_close(Duration::from_secs(5)).await.expect("closed");
        statuses.push(answer["HTTP/1.1 ".len()..][..3].to_owned());
    }
    assert!(statuses.iter().all(|status| matches!(status.as_str(), "408" | "429")), "{statuses:?}");
    assert!(["408", "429"].iter().all(|status| statuses.iter().any(|one| one == status)), "{statuses:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_disconnected_client_ends_its_request() {
    let service = Service::start("text-smol").await;
    let gateway = TestGateway::with(vec![model("one", &[&service])], |_| {}).await;
    let mut stream = complete(&gateway, r#"{"model": "one", "stream": true}"#).await.bytes_stream();
    stream.next().await.unwrap().unwrap();
    let under_way = async || {
        let metrics = gateway.get("/metrics").send().await.unwrap().text().await.unwrap();
        metrics
            .lines()
            .any(|line| line.starts_with("videosdgx_gateway_upstream_in_flight") && line.ends_with(" 1"))
    };
    assert!(under_way().await);
    drop(stream);
    gateway.eventually("the service's connection is given up", async || !under_way().await).await;
}
