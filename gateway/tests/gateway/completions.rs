//! Text, routed by the `model` in the body.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use videosdgx_auth::Scope;
use videosdgx_gateway::ModelConfig;

use crate::raw::Raw;
use crate::service::Service;
use crate::world::{World, model};

const CHAT: &str = "/v1/chat/completions";

/// Two text models with checkpoints of their own and a video model, all looked at.
async fn house() -> ([Service; 3], World) {
    let services =
        [Service::start("text-smol").await, Service::start("text-large").await, Service::start("fake").await];
    let models =
        ["one", "two", "film"].iter().zip(&services).map(|(name, service)| model(name, &[service])).collect();
    let world = World::with(models, |config| config.limits.max_body_bytes = 100_000).await;
    known(&world, 3).await;
    (services, world)
}

/// Waits until `count` models have said what they make.
async fn known(world: &World, count: usize) {
    world
        .eventually("all kinds are known", async || {
            let models: Value = world.get("/v1/models").send().await.unwrap().json().await.unwrap();
            models["data"].as_array().unwrap().iter().filter(|model| !model["kind"].is_null()).count()
                == count
        })
        .await;
}

async fn ask(world: &World, body: &str) -> Response {
    world.post(CHAT).header("content-type", "application/json").body(body.to_owned()).send().await.unwrap()
}

async fn refused(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    (status, body["error"].clone())
}

#[tokio::test]
async fn a_request_goes_to_its_model_as_it_came() {
    let (_services, world) = house().await;
    let models: Value = world.get("/v1/models").send().await.unwrap().json().await.unwrap();
    let kinds: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| &model["kind"]).collect();
    assert_eq!(kinds, ["text", "text", "video"]);
    for (name, service) in
        [("one", "text-smol"), ("two", "text-large"), ("smol", "text-smol"), ("large", "text-large")]
    {
        let body = format!(
            "  {{\"messages\" : [ {{\"content\":\"h\\u00e9\"}} ],\n \"model\":\"{name}\", \"x\": 1.0}} "
        );
        let answer: Value = ask(&world, &body).await.json().await.unwrap();
        assert_eq!(answer["service"], service);
        assert_eq!(answer["body"], body.as_str());
        assert_eq!(answer["length"], body.len().to_string());
    }
    let answer =
        world.post("/v1/completions").json(&json!({"model": "one", "prompt": "a"})).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn who_is_not_there_or_makes_something_else_is_named() {
    let (services, world) = house().await;
    let (status, error) = refused(ask(&world, r#"{"model": "nobody"}"#).await).await;
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
        let (status, error) = refused(ask(&world, body).await).await;
        assert_eq!(status, 400, "{body}");
        assert!(error["message"].as_str().unwrap().contains(words), "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let (status, error) =
        refused(ask(&world, &format!(r#"{{"model": "{}"}}"#, "x".repeat(100_000))).await).await;
    assert_eq!((status.as_u16(), &error["code"]), (413, &json!("body_too_large")));
    let (status, error) =
        refused(world.post("/v1/videos").json(&json!({"model": "one", "prompt": "a"})).send().await.unwrap())
            .await;
    assert_eq!(status, 400);
    assert!(error["message"].as_str().unwrap().contains("one makes text"), "{error}");
    let reader =
        world.as_of("bob", Scope::Read, reqwest::Method::POST, CHAT).body("{}").send().await.unwrap();
    assert_eq!(refused(reader).await.0, 403);
    assert_eq!(world.client.post(world.url(CHAT)).body("{}").send().await.unwrap().status(), 401);
    assert!(services.iter().all(|service| service.requests() == 0));
}

#[tokio::test]
async fn a_checkpoint_that_two_serve_is_no_name_and_one_text_model_needs_none() {
    let services = [Service::start("text-smol").await, Service::start("text-smol").await];
    let models = vec![model("one", &[&services[0]]), model("two", &[&services[1]])];
    let world = World::with(models, |_| {}).await;
    known(&world, 2).await;
    let (status, error) = refused(ask(&world, r#"{"model": "smol"}"#).await).await;
    assert_eq!((status.as_u16(), &error["param"]), (400, &json!("model")));
    assert!(error["message"].as_str().unwrap().contains("several"), "{error}");

    let film = Service::start("fake").await;
    let world = World::with(vec![model("film", &[&film]), model("one", &[&services[0]])], |_| {}).await;
    known(&world, 2).await;
    assert_eq!(ask(&world, "{}").await.status(), 200);
}

#[tokio::test]
async fn tokens_pass_one_by_one_and_finish_while_the_gateway_drains() {
    let service = Service::start("text-smol").await;
    let mut world = World::with(vec![model("one", &[&service])], |_| {}).await;
    let mut stream = ask(&world, r#"{"model": "one", "stream": true}"#).await.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first, "id: 0\ndata: event 0\n\n");
    world.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!world.running.as_ref().unwrap().is_finished());
    service.release();
    assert_eq!(stream.next().await.unwrap().unwrap(), "id: 1\ndata: event 1\n\n");
    assert!(stream.next().await.is_none(), "no word of the gateway's own in between");
    tokio::time::timeout(Duration::from_secs(5), world.running.take().unwrap()).await.unwrap().unwrap();
}

#[tokio::test]
async fn prompts_that_come_up_one_by_one_are_answered_meanwhile() {
    let service = Service::start("text-smol").await;
    let world = World::with(vec![model("one", &[&service])], |config| {
        config.limits.body_grace_seconds = 0.05;
    })
    .await;
    let (lines, body) = tokio::sync::mpsc::channel::<&'static str>(1);
    let body = futures::stream::unfold(body, |mut body| async move {
        Some((Ok::<_, std::io::Error>(body.recv().await?), body))
    });
    lines.send("first\n").await.unwrap();
    let response = world
        .post("/models/one/stream/generate")
        .header("content-type", "application/x-ndjson")
        .body(reqwest::Body::wrap_stream(body))
        .send()
        .await
        .unwrap();
    let mut answers = response.bytes_stream();
    assert_eq!(answers.next().await.unwrap().unwrap(), "first\n");
    // Long after an ordinary body would have been too slow.
    tokio::time::sleep(Duration::from_millis(150)).await;
    lines.send("second\n").await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), "second\n");
    drop(lines);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn what_never_arrived_is_sent_elsewhere_and_nothing_is_sent_twice() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let services = [Service::start("text-smol").await, Service::start("text-smol").await];
    let mut upstreams = model("one", &[&services[0], &services[1]]).upstreams;
    upstreams.insert(0, nobody);
    let world = World::with(vec![ModelConfig { name: "one".into(), upstreams }], |_| {}).await;
    for _ in 0..6 {
        assert_eq!(ask(&world, r#"{"model": "one"}"#).await.status(), 200);
    }
    let requests = |_: ()| services.iter().map(Service::requests).sum::<usize>();
    assert_eq!(requests(()), 6);
    let (status, _) = refused(ask(&world, r#"{"model": "one", "prompt": "hang up"}"#).await).await;
    assert_eq!((status.as_u16(), requests(())), (502, 7), "one attempt, though another service is there");
}

#[tokio::test]
async fn refusals_of_a_service_speak_openais_language() {
    let service = Service::start("text-smol").await;
    let world = World::with(vec![model("one", &[&service])], |_| {}).await;
    let response = ask(&world, r#"{"model": "one", "prompt": "problem"}"#).await;
    let (status, error) = refused(response).await;
    assert_eq!(
        (status.as_u16(), &error["code"], &error["type"]),
        (429, &json!("queue_full"), &json!("rate_limit_error"))
    );
    let native = world.client.post(world.url("/models/one/v1/chat/completions")).send().await.unwrap();
    let (status, error) = refused(native).await;
    assert_eq!((status.as_u16(), &error["type"]), (401, &json!("authentication_error")));
}

#[tokio::test]
async fn bodies_in_memory_are_bounded_in_all() {
    let service = Service::start("text-smol").await;
    let world = World::with(vec![model("one", &[&service])], |config| {
        config.limits.max_body_bytes = 64 * 1024;
        config.limits.max_buffered_bytes = 64 * 1024;
    })
    .await;
    let token = world.token("ada", [Scope::Generate]);
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let mut half_said = Raw::connect(world.address).await;
    let half = format!(r#"{{"model": "one", "x": "{}"#, "x".repeat(40 * 1024));
    half_said.send(format!("{head}Content-Length: 50000\r\n\r\n{half}")).await;
    let large = format!(r#"{{"model": "one", "x": "{}"}}"#, "x".repeat(30 * 1024));
    world
        .eventually("there is no room for a second one", async || {
            let response = ask(&world, &large).await;
            response.status() == 503 && response.headers().contains_key("retry-after")
        })
        .await;
    assert_eq!(ask(&world, r#"{"model": "one"}"#).await.status(), 200, "a small one fits");
    drop(half_said);
    world.eventually("its room is free again", async || ask(&world, &large).await.status() == 200).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let service = Service::start("text-smol").await;
    let world = World::with(vec![model("one", &[&service])], |_| {}).await;
    let mut stream = ask(&world, r#"{"model": "one", "stream": true}"#).await.bytes_stream();
    stream.next().await.unwrap().unwrap();
    let under_way = async || {
        let metrics = world.get("/metrics").send().await.unwrap().text().await.unwrap();
        metrics
            .lines()
            .any(|line| line.starts_with("videosdgx_gateway_upstream_in_flight") && line.ends_with(" 1"))
    };
    assert!(under_way().await);
    drop(stream);
    world.eventually("the service's connection is given up", async || !under_way().await).await;
}
