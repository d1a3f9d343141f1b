//! WebSockets: who may open them, how many, and how they end.

use std::time::Duration;

use videosdgx_auth::{Scope, Scopes};

use crate::raw::Raw;
use crate::service::Service;
use crate::test_gateway::{TestGateway, model};

/// A frame of a client: final, text, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// Requests a WebSocket with these header lines; returns the response head.
async fn open(gateway: &TestGateway, lines: &str) -> (Raw, String) {
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(format!(
        "GET /models/fake/socket HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{lines}\r\n",
        gateway.address
    ))
    .await;
    let head = raw.read_until("\r\n\r\n").await;
    (raw, head)
}

#[tokio::test]
async fn a_token_in_the_subprotocol_is_not_forwarded() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let token = gateway.token("ada", Scopes::all());
    let (mut raw, head) = open(
        &gateway,
        &format!(
            "Origin: http://{}\r\nSec-WebSocket-Protocol: speech.json, bearer.{token}\r\n",
            gateway.address
        ),
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(service.seen("sec-websocket-protocol"), ["speech.json"]);
    assert_eq!(service.seen("authorization"), [format!("Bearer {token}")]);
    assert!(service.seen("origin").is_empty(), "it has been checked here");
    raw.send(frame("hello")).await;
    assert!(raw.read_until("hello").await.ends_with("\0\0\0\0hello"));
}

#[tokio::test]
async fn invalid_tokens_and_foreign_origins_are_refused() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::with(vec![model("fake", &[&service])], |config| {
        config.cors_origins = vec!["https://studio.example".into()];
    })
    .await;
    let good = gateway.token("ada", Scopes::all());
    for (lines, status) in [
        (String::new(), 401),
        ("Sec-WebSocket-Protocol: speech.json, bearer.nonsense\r\n".into(), 401),
        (format!("Sec-WebSocket-Protocol: bearer.{good}, bearer.{good}\r\n"), 401),
        (format!("Authorization: Bearer {good}\r\nOrigin: https://evil.example\r\n"), 403),
        (format!("Authorization: Bearer {good}\r\nOrigin: null\r\n"), 403),
        (format!("Authorization: Bearer {good}\r\nOrigin: https://studio.example\r\n"), 101),
        (format!("Authorization: Bearer {good}\r\n"), 101),
    ] {
        let before = service.requests();
        let (_raw, head) = open(&gateway, &lines).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{lines}: {head}");
        assert_eq!(service.requests() - before, usize::from(status == 101), "{lines}");
    }
}

#[tokio::test]
async fn open_sockets_are_limited() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::with(vec![model("fake", &[&service])], |config| {
        config.limits.max_sockets = 3;
        config.limits.max_sockets_per_principal = 2;
    })
    .await;
    let ada = format!("Authorization: Bearer {}\r\n", gateway.token("ada", [Scope::Read]));
    let bob = format!("Authorization: Bearer {}\r\n", gateway.token("bob", [Scope::Read]));
    let (first, _) = open(&gateway, &ada).await;
    let (_second, head) = open(&gateway, &ada).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (_, head) = open(&gateway, &ada).await;
    assert!(head.starts_with("HTTP/1.1 429") && head.contains("retry-after"), "{head}");
    let (_third, head) = open(&gateway, &bob).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (_, head) = open(&gateway, &bob).await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    let metrics = gateway.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("videosdgx_gateway_sockets 3\n"), "{metrics}");
    drop(first);
    gateway
        .eventually("the place is free", async || open(&gateway, &ada).await.1.starts_with("HTTP/1.1 101"))
        .await;
}

#[tokio::test]
async fn idle_sockets_and_all_sockets_at_shutdown_are_closed() {
    let service = Service::start("fake").await;
    let mut gateway =
        TestGateway::with(vec![model("fake", &[&service])], |config| config.limits.socket_idle_seconds = 0.3)
            .await;
    let token = format!("Authorization: Bearer {}\r\n", gateway.token("ada", [Scope::Read]));
    let (mut idle, _) = open(&gateway, &token).await;
    let last = idle.read_to_close(Duration::from_secs(5)).await.expect("it is closed");
    assert!(last.ends_with("the connection was idle"), "{last:?}");

    let (mut talking, _) = open(&gateway, &token).await;
    talking.send(frame("hello")).await;
    talking.read_until("hello").await;
    gateway.stop();
    let ended = tokio::time::timeout(Duration::from_secs(10), gateway.running.take().unwrap());
    let last = talking.read_to_close(Duration::from_secs(5)).await.expect("it is closed");
    assert!(last.contains("idle") || last.contains("shutting down"), "{last:?}");
    drop(talking);
    ended.await.expect("the gateway waits for its sockets and no longer").unwrap();
}

#[tokio::test]
async fn a_426_names_the_protocol_that_the_path_needs() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let answer = gateway.get("/models/fake/status/426").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["upgrade"]),
        (426, &"websocket".parse().unwrap())
    );
    assert_eq!(answer.headers()["connection"], "upgrade");
}
