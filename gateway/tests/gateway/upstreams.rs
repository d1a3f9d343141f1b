//! Several services, some of them down.

use std::time::{Duration, Instant};

use reqwest::Body;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use videosdgx_gateway::ModelConfig;

use crate::service::Service;
use crate::test_gateway::{TestGateway, model};

/// An address without a listener: it was bound briefly and is free again.
async fn unused_address() -> url::Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
}

async fn ready(gateway: &TestGateway) -> Value {
    gateway.client.get(gateway.url("/ready")).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn ready_reports_each_services_state() {
    let service = Service::start("fake").await;
    let mut one = model("fake", &[&service]);
    one.upstreams.push(unused_address().await);
    let down = ModelConfig { name: "gone".into(), upstreams: vec![unused_address().await] };
    let gateway = TestGateway::with(vec![one, down], |_| {}).await;
    gateway
        .eventually("all states are known", async || {
            let models = ready(&gateway).await["models"].clone();
            models[0]["services"][0]["up"] == true
                && models[0]["services"][1]["up"] == false
                && models[1]["services"][0]["up"] == false
        })
        .await;
    let response = gateway.client.get(gateway.url("/ready")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.unwrap();
    let service = &body["models"][0]["services"][0];
    assert_eq!((&service["checkpoint"], &service["loader"]), (&json!("demo-shapes"), &json!("unloaded")));
    assert_eq!((&service["ready"], &service["reason"]), (&json!(false), &json!("the model is not loaded")));
    assert_eq!(body["models"][1]["available"], false);
    let models: Value = gateway.get("/v1/models").send().await.unwrap().json().await.unwrap();
    let available: Vec<_> = models["data"].as_array().unwrap().iter().map(|one| &one["available"]).collect();
    assert_eq!(available, [true, false]);
    let metrics = gateway.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("videosdgx_gateway_upstream_up{model=\"gone\""), "{metrics}");
}

#[tokio::test]
async fn with_no_service_up_the_gateway_is_not_ready_and_says_502() {
    let down = ModelConfig { name: "gone".into(), upstreams: vec![unused_address().await] };
    let gateway = TestGateway::with(vec![down], |_| {}).await;
    let response = gateway.client.get(gateway.url("/ready")).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(gateway.client.get(gateway.url("/health")).send().await.unwrap().status(), 200);
    for path in ["/models/gone/info", "/v1/videos/gone-0001"] {
        let started = Instant::now();
        let response = gateway.get(path).send().await.unwrap();
        assert_eq!(response.status(), 502, "{path}");
        assert!(response.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        assert!(started.elapsed() < Duration::from_secs(1));
        let text = response.text().await.unwrap();
        assert!(text.contains("upstream_unavailable") && !text.contains("127.0.0.1"), "{text}");
    }
}

#[tokio::test]
async fn requests_that_reached_no_service_are_retried_with_their_body() {
    let service = Service::start("fake").await;
    let mut one = model("fake", &[&service]);
    one.upstreams.insert(0, unused_address().await);
    let gateway = TestGateway::with(vec![one], |config| config.limits.health_seconds = 3600.0).await;
    for number in 0..12 {
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>(format!("body {number}"))]);
        let response =
            gateway.post("/models/fake/echo").body(Body::wrap_stream(chunks)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.json::<Value>().await.unwrap()["body"], format!("body {number}"));
    }
    assert_eq!(service.requests(), 12, "each exactly once");
}

#[tokio::test]
async fn requests_that_reached_a_service_are_repeated_once_only_if_they_are_safe() {
    // A service that reads a request and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test sends a handful of messages")]
    let (counter, mut counted) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            use tokio::io::AsyncReadExt;
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            let method = String::from_utf8_lossy(&head[..read.min(4)]).into_owned();
            if head[..read].windows(5).any(|part| part == b"/echo") {
                counter.send(method).unwrap();
            }
        }
    });
    let gateway =
        TestGateway::with(vec![ModelConfig { name: "fake".into(), upstreams: vec![url] }], |_| {}).await;
    let response = gateway.post("/models/fake/echo").body("x").send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(counted.recv().await.unwrap(), "POST");
    assert!(counted.try_recv().is_err(), "sent once");
    assert_eq!(gateway.get("/models/fake/echo").send().await.unwrap().status(), 502);
    for _ in 0..2 {
        assert_eq!(counted.recv().await.unwrap(), "GET ");
    }
    assert!(counted.try_recv().is_err(), "sent twice");
}

#[tokio::test]
async fn five_failures_open_the_breaker_and_recovery_closes_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}").parse().unwrap();
    let gateway =
        TestGateway::with(vec![ModelConfig { name: "fake".into(), upstreams: vec![url] }], |_| {}).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/models/fake/echo").send().await.unwrap().status(), 502);
    }
    assert_eq!(ready(&gateway).await["models"][0]["services"][0]["breaker"], "open");
    let metrics = gateway.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("videosdgx_gateway_breaker_state{") && line.ends_with(" 2"))
    );
    let service = Service::at(TcpListener::bind(address).await.unwrap(), "fake");
    gateway
        .eventually("the breaker is closed again", async || {
            let _ = gateway.get("/models/fake/echo").send().await.unwrap();
            ready(&gateway).await["models"][0]["services"][0]["breaker"] == "closed"
        })
        .await;
    assert_eq!(gateway.get("/models/fake/echo").send().await.unwrap().status(), 200);
    drop(service);
}

#[tokio::test]
async fn requests_are_spread_over_the_services_of_a_model() {
    let (one, two) = (Service::start("fake").await, Service::start("fake").await);
    let gateway = TestGateway::with(vec![model("fake", &[&one, &two])], |_| {}).await;
    let held: Vec<_> = (0..8).map(|_| tokio::spawn(gateway.get("/models/fake/held").send())).collect();
    one.holding(4).await;
    two.holding(4).await;
    one.release();
    two.release();
    for request in held {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_job_is_found_at_the_service_that_has_it() {
    let (one, two) = (Service::start("a").await, Service::start("b").await);
    let gateway = TestGateway::with(vec![model("fake", &[&one, &two])], |_| {}).await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let body = json!({"prompt": format!("p{number}")}).to_string();
        let accepted = gateway.post("/models/fake/generate").body(body).send().await.unwrap();
        let accepted: Value = accepted.json().await.unwrap();
        ids.push(accepted["job_id"].as_str().unwrap().to_owned());
    }
    assert!(
        ids.iter().any(|id| id.starts_with("a-")) && ids.iter().any(|id| id.starts_with("b-")),
        "{ids:?}"
    );
    for round in 0..2 {
        for id in &ids {
            let path = format!("/models/fake/jobs/{id}");
            let job: Value = gateway.get(&path).send().await.unwrap().json().await.unwrap();
            assert_eq!(job["job_id"], *id, "round {round}");
            let events = gateway.get(&format!("{path}/events")).send().await.unwrap().text().await.unwrap();
            assert!(events.contains(id), "{events}");
        }
    }
    assert_eq!(gateway.get("/models/fake/jobs/a-9999").send().await.unwrap().status(), 404);
    // One list, newest first, over both, by pages.
    let mut listed = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/models/fake/jobs?limit=2{cursor}");
        let page: Value = gateway.get(&path).send().await.unwrap().json().await.unwrap();
        let jobs = page["jobs"].as_array().unwrap().clone();
        assert!(jobs.len() <= 2);
        listed.extend(jobs.iter().map(|job| {
            (job["created_at"].as_str().unwrap().to_owned(), job["job_id"].as_str().unwrap().to_owned())
        }));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(listed.windows(2).all(|pair| pair[0].0 >= pair[1].0), "{listed:?}");
    let mut found: Vec<String> = listed.into_iter().map(|(_, id)| id).collect();
    found.sort();
    ids.sort();
    assert_eq!(found, ids);
}
