//! Graceful shutdown.

use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;

use crate::raw::Raw;
use crate::service::Service;
use crate::test_gateway::{TestGateway, model};

#[tokio::test]
async fn requests_in_flight_finish_and_new_ones_are_refused() {
    let service = Service::start("fake").await;
    let mut gateway = TestGateway::in_front_of(&service).await;
    gateway.ready().await;
    // A request that waits for its answer, a download in progress, an event stream, an idle connection.
    let waiting = tokio::spawn(gateway.get("/models/fake/held").send());
    service.holding(1).await;
    let mut download = gateway.get("/models/fake/large").send().await.unwrap().bytes_stream();
    let mut downloaded = download.next().await.unwrap().unwrap().len();
    let mut events = gateway.get("/models/fake/stream").send().await.unwrap().bytes_stream();
    events.next().await.unwrap().unwrap();
    let mut idle = Raw::connect(gateway.address).await;
    idle.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.read_until("{\"status\":\"ok\"}").await;

    gateway.stop();
    // A new client: idle connections are being closed.
    let fresh = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let token = gateway.token("ada", videosdgx_auth::Scopes::all());
    gateway
        .eventually("/ready says so", async || {
            fresh.get(gateway.url("/ready")).send().await.unwrap().status() == 503
        })
        .await;
    let body: Value = fresh.get(gateway.url("/ready")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&body["ready"], &body["reason"]), (&false.into(), &"shutting down".into()));
    assert_eq!(fresh.get(gateway.url("/health")).send().await.unwrap().status(), 200);
    let refused = fresh.get(gateway.url("/models/fake/echo")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "draining");

    assert!(idle.read_to_close(Duration::from_secs(5)).await.is_some(), "idle connections are closed");
    let last = events.next().await.unwrap().unwrap();
    let last = String::from_utf8_lossy(&last);
    assert!(last.starts_with("event: reconnect\n") && last.ends_with("\n\n"), "{last:?}");
    assert!(events.next().await.is_none());
    while let Some(part) = download.next().await {
        downloaded += part.unwrap().len();
    }
    assert_eq!(downloaded, 64 * 1024 * 1024, "not a byte is cut");
    assert!(!gateway.running.as_ref().unwrap().is_finished(), "it waits for the last request");
    service.release();
    assert_eq!(waiting.await.unwrap().unwrap().text().await.unwrap(), "let go");
    let ended = tokio::time::timeout(Duration::from_secs(5), gateway.running.take().unwrap()).await;
    ended.expect("it ends when all is done").unwrap();
    assert!(fresh.get(gateway.url("/health")).send().await.is_err());
}

#[tokio::test]
async fn the_drain_time_limits_the_shutdown() {
    let service = Service::start("fake").await;
    let mut gateway =
        TestGateway::with(vec![model("fake", &[&service])], |config| config.limits.drain_seconds = 0.3).await;
    let waiting = tokio::spawn(gateway.get("/models/fake/held").send());
    service.holding(1).await;
    gateway.stop();
    tokio::time::timeout(Duration::from_secs(5), gateway.running.take().unwrap())
        .await
        .expect("it ends")
        .unwrap();
    drop(waiting);
}
