//! The limits: 429 by peer and principal, 503 at once, 413, 408, 504.

use std::time::{Duration, Instant};

use reqwest::{Body, Method};
use serde_json::Value;
use videosdgx_auth::Scope;

use crate::raw::Raw;
use crate::service::Service;
use crate::test_gateway::{TestGateway, model};

async fn limited(change: impl FnOnce(&mut videosdgx_gateway::Limits)) -> (Service, TestGateway) {
    let service = Service::start("fake").await;
    let gateway =
        TestGateway::with(vec![model("fake", &[&service])], |config| change(&mut config.limits)).await;
    (service, gateway)
}

#[tokio::test]
async fn only_the_principal_over_its_rate_is_refused() {
    let (_service, gateway) = limited(|limits| limits.principal_rate = 1).await;
    let ask = |subject: &str| gateway.as_of(subject, Scope::Read, Method::GET, "/models/fake/echo").send();
    for _ in 0..2 {
        assert_eq!(ask("greedy").await.unwrap().status(), 200);
    }
    let refused = ask("greedy").await.unwrap();
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["retry_after_seconds"]), (&"rate_limited".into(), &wait.into()));
    assert_eq!(ask("modest").await.unwrap().status(), 200);
    let refused = gateway.as_of("greedy", Scope::Read, Method::GET, "/v1/models").send().await.unwrap();
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["type"], "rate_limit_error");
    let metrics = gateway.as_of("modest", Scope::Read, Method::GET, "/metrics").send().await.unwrap();
    assert!(metrics.text().await.unwrap().contains("videosdgx_gateway_limited_total{limit=\"principal\"} 2"));
}

#[tokio::test]
async fn a_peer_over_its_rate_is_refused_before_its_token_is_verified() {
    let (_service, gateway) = limited(|limits| limits.peer_rate = 1).await;
    let ask = || gateway.client.get(gateway.url("/metrics")).bearer_auth("nonsense").send();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(ask().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 429]);
    // `X-Forwarded-For` has no effect without a trusted proxy.
    let claimed = gateway
        .client
        .get(gateway.url("/metrics"))
        .header("x-forwarded-for", "9.9.9.9")
        .send()
        .await
        .unwrap();
    assert_eq!(claimed.status(), 429);
}

#[tokio::test]
async fn a_trusted_proxy_reports_the_client_address() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::with(vec![model("fake", &[&service])], |config| {
        config.limits.peer_rate = 1;
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    for client in ["9.9.9.1", "9.9.9.2", "9.9.9.3", "9.9.9.4"] {
        let response =
            gateway.get("/models/fake/echo").header("x-forwarded-for", client).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(service.seen("x-forwarded-for"), [client]);
    }
}

#[tokio::test]
async fn overload_is_answered_at_once_and_health_still_works() {
    let (service, gateway) = limited(|limits| limits.max_in_flight = 4).await;
    let held: Vec<_> = (0..4).map(|_| tokio::spawn(gateway.get("/models/fake/held").send())).collect();
    service.holding(4).await;
    let started = Instant::now();
    let refused = gateway.get("/models/fake/echo").send().await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "overloaded");
    for path in ["/health", "/ready"] {
        assert_eq!(gateway.client.get(gateway.url(path)).send().await.unwrap().status(), 200, "{path}");
    }
    service.release();
    for one in held {
        assert_eq!(one.await.unwrap().unwrap().text().await.unwrap(), "let go");
    }
    assert_eq!(gateway.get("/models/fake/echo").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn one_address_cannot_use_all_requests_in_flight() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::with(vec![model("fake", &[&service])], |config| {
        config.limits.max_in_flight_per_address = 2;
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let from = |address: &str, path: &str| gateway.get(path).header("x-forwarded-for", address).send();
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(from("9.9.9.1", "/models/fake/held"))).collect();
    service.holding(2).await;
    let refused = from("9.9.9.1", "/models/fake/echo").await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(refused.json::<Value>().await.unwrap()["limit"], 2);
    assert_eq!(from("9.9.9.2", "/models/fake/echo").await.unwrap().status(), 200);
    service.release();
    for one in held {
        assert_eq!(one.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(from("9.9.9.1", "/models/fake/echo").await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_permit_is_held_until_the_last_byte_or_the_client_disconnects() {
    let (service, gateway) = limited(|limits| limits.max_in_flight = 1).await;
    let stream = gateway.get("/models/fake/stream").send().await.unwrap();
    assert_eq!(gateway.get("/models/fake/echo").send().await.unwrap().status(), 503);
    drop(stream);
    gateway
        .eventually("the place is free", async || {
            gateway.get("/models/fake/echo").send().await.unwrap().status() == 200
        })
        .await;
    drop(service);
}

#[tokio::test]
async fn bodies_over_the_limit_are_413_by_length_and_by_count() {
    let (service, gateway) = limited(|limits| limits.max_body_bytes = 1000).await;
    let fits = gateway.post("/models/fake/echo").body(vec![b'x'; 1000]).send().await.unwrap();
    assert_eq!(fits.status(), 200);
    let before = service.requests();
    let announced = gateway.post("/models/fake/echo").body(vec![b'x'; 1001]).send().await.unwrap();
    assert_eq!(announced.status(), 413);
    let problem: Value = announced.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["limit"]), (&"body_too_large".into(), &1000.into()));
    assert_eq!(service.requests(), before, "it never reached the service");
    for _ in 0..6 {
        let chunks = futures::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 500])));
        let counted = gateway.post("/models/fake/echo").body(Body::wrap_stream(chunks)).send().await.unwrap();
        assert_eq!(counted.status(), 413);
    }
    let openai = gateway.post("/v1/videos").header("content-type", "application/json").body(vec![b'x'; 1001]);
    assert_eq!(openai.send().await.unwrap().status(), 413);
    // None of this was a failure of the service: its breaker is closed.
    let ready: Value = gateway.client.get(gateway.url("/ready")).send().await.unwrap().json().await.unwrap();
    assert_eq!(ready["models"][0]["services"][0]["breaker"], "closed");
}

#[tokio::test]
async fn a_slow_body_is_refused() {
    let (_service, gateway) = limited(|limits| limits.body_window_seconds = 0.3).await;
    let token = gateway.token("ada", [Scope::Generate]);
    let mut raw = Raw::connect(gateway.address).await;
    let head = format!("POST /models/fake/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    // What came at once gives no credit for a rest.
    for said in ["some".to_owned(), "x".repeat(900_000)] {
        raw.send(format!("{head}Content-Length: 1000000\r\n\r\n{said}")).await;
        let started = Instant::now();
        let answer = raw.read_to_close(Duration::from_secs(5)).await.expect("closed");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("invalid_body"), "{answer}");
        raw = Raw::connect(gateway.address).await;
    }
}

#[tokio::test]
async fn a_service_that_does_not_begin_to_answer_is_504() {
    let (service, gateway) = limited(|limits| limits.response_seconds = 0.2).await;
    let response = gateway.get("/models/fake/held").send().await.unwrap();
    assert_eq!(response.status(), 504);
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "timeout");
    // A stream that began in time may take longer.
    let stream = gateway.get("/models/fake/stream").send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    service.release();
    assert_eq!(stream.text().await.unwrap(), "id: 0\ndata: event 0\n\nid: 1\ndata: event 1\n\n");
}
