//! Connections that are silent, slow, incomplete or malformed.

use std::time::{Duration, Instant};

use videosdgx_auth::Scope;

use crate::raw::Raw;
use crate::service::Service;
use crate::test_gateway::{TestGateway, model};

/// A gateway with short timeouts in the same order as the defaults.
async fn with_short_timeouts() -> (Service, TestGateway) {
    let service = Service::start("fake").await;
    let gateway = TestGateway::with(vec![model("fake", &[&service])], |config| {
        config.limits.header_seconds = 0.3;
        config.limits.idle_seconds = 1.5;
        config.limits.write_stall_seconds = 0.5;
    })
    .await;
    (service, gateway)
}

#[tokio::test]
async fn silent_and_incomplete_connections_are_closed() {
    let (_service, gateway) = with_short_timeouts().await;
    for said in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX-A: "] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(said).await;
        let started = Instant::now();
        assert!(raw.read_to_close(Duration::from_secs(5)).await.is_some(), "{said:?} stays open");
        let elapsed = started.elapsed();
        assert!(
            elapsed > Duration::from_millis(200) && elapsed < Duration::from_secs(2),
            "{said:?}: {elapsed:?}"
        );
    }
}

#[tokio::test]
async fn a_slow_header_gets_no_more_time_than_a_silent_one() {
    let (_service, gateway) = with_short_timeouts().await;
    let mut raw = Raw::connect(gateway.address).await;
    let started = Instant::now();
    let dribble = async {
        raw.send("GET / HTTP/1.1\r\n").await;
        loop {
            raw.send("X-A: 1\r\n").await;
            if raw.read_to_close(Duration::from_millis(50)).await.is_some() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), dribble).await.expect("closed");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_connection_is_reused_and_closed_when_idle() {
    let (_service, gateway) = with_short_timeouts().await;
    let mut raw = Raw::connect(gateway.address).await;
    for _ in 0..3 {
        raw.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
        raw.read_until("{\"status\":\"ok\"}").await;
        // Longer than a header may take: an idle connection has its own timeout.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(raw.read_to_close(Duration::from_secs(5)).await.is_some(), "it ends after the idle time");
    let mut raw = Raw::connect(gateway.address).await;
    raw.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    raw.read_until("{\"status\":\"ok\"}").await;
    let started = Instant::now();
    raw.send("GET /hea").await;
    assert!(raw.read_to_close(Duration::from_secs(5)).await.is_some());
    assert!(started.elapsed() < Duration::from_secs(1), "a second header has the header's time");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let (_service, gateway) = with_short_timeouts().await;
    let token = gateway.token("ada", [Scope::Read]);
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(format!("GET /models/fake/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"))
        .await;
    gateway
        .eventually("its place is free again", async || {
            let metrics = gateway.get("/metrics").send().await.unwrap().text().await.unwrap();
            // This request itself is the one in flight.
            metrics.contains("videosdgx_gateway_requests_in_flight 1\n")
                && metrics.contains("route=\"/models/{model}/{*path}\"")
        })
        .await;
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let (service, gateway) = with_short_timeouts().await;
    let token = gateway.token("ada", [Scope::Generate, Scope::Read]);
    let head = format!("POST /models/fake/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let smuggled = "0\r\n\r\nGET /models/fake/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = smuggled.len();
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut cases = vec![
        ("two lengths", format!("{head}Content-Length: 5\r\nContent-Length: {length}\r\n\r\n{smuggled}")),
        (
            "the same length twice",
            format!("{head}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello{smuggled}"),
        ),
        ("lengths in a list", format!("{head}Content-Length: 5, {length}\r\n\r\n{smuggled}")),
        ("a signed length", format!("{head}Content-Length: +{length}\r\n\r\n{smuggled}")),
        ("chunked twice removed", format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n{smuggled}")),
        ("chunked in a list", format!("{head}Transfer-Encoding: chunked, chunked\r\n\r\n{smuggled}")),
        ("chunked twice", format!("{head}{chunked}{chunked}\r\n{smuggled}")),
        ("odd encoding", format!("{head}Transfer-Encoding: xchunked\r\n\r\n{smuggled}")),
        (
            "a length before chunks",
            format!("{head}Content-Length: 4\r\n{chunked}\r\n5\r\nhello\r\n{smuggled}"),
        ),
        (
            "a length behind chunks",
            format!("{head}{chunked}Content-Length: 4\r\n\r\n5\r\nhello\r\n{smuggled}"),
        ),
        ("space before the colon", format!("{head}Content-Length : {length}\r\n\r\n{smuggled}")),
        ("a folded line", format!("{head}X-A: 1\r\n Content-Length: {length}\r\n\r\n{smuggled}")),
        ("a bad chunk length", format!("{head}{chunked}\r\nzz\r\n\r\n{smuggled}")),
        ("line feeds between chunks", format!("{head}{chunked}\r\n5\nhello\n{smuggled}")),
        ("HTTP/1.0 chunked", format!("{head}{chunked}\r\n{smuggled}").replace("1.1\r\nHost", "1.0\r\nHost")),
        ("NUL in a header", format!("{head}X-A: a\0b\r\nContent-Length: 0\r\n\r\n")),
        ("a carriage return in a header", format!("{head}X-A: a\rb\r\nContent-Length: 0\r\n\r\n")),
        ("line feeds only", format!("{head}\r\n").replace("\r\n", "\n")),
        ("one line feed", format!("{head}X-A: 1\nContent-Length: 0\r\n\r\n")),
        ("no host", format!("{head}\r\n").replace("Host: x\r\n", "")),
        ("two hosts", format!("{head}Host: y\r\n\r\n")),
        ("the same host twice", format!("{head}Host: x\r\n\r\n")),
        ("no version", "GET /health\r\n\r\n".to_owned()),
    ];
    // Behind a valid request too.
    let health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    cases.extend(cases.clone().into_iter().map(|(name, request)| (name, format!("{health}{request}"))));
    for (name, request) in cases {
        let before = service.requests();
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(&request).await;
        let answer =
            raw.read_to_close(Duration::from_secs(5)).await.unwrap_or_else(|| panic!("{name} stays open"));
        let statuses: Vec<&str> = answer.split("HTTP/1.").skip(1).map(|answer| &answer[2..5]).collect();
        let expected = if request.starts_with(health) { &["200", "400"][..] } else { &["400"] };
        assert_eq!(statuses, expected, "{name}: {answer}");
        let seen = service.state.seen.lock().unwrap().clone();
        assert!(!seen.contains_key("x-smuggled") && service.requests() <= before + 1, "{name}");
    }
}

/// A request for a WebSocket that is refused ends the connection, since what follows it could be frames.
#[tokio::test]
async fn nothing_follows_a_refused_websocket() {
    let (service, gateway) = with_short_timeouts().await;
    let mut raw = Raw::connect(gateway.address).await;
    let refused =
        "GET /models/fake/socket HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    raw.send(format!("{refused}GET /health HTTP/1.1\nHost: x\n\n")).await;
    let answer = raw.read_to_close(Duration::from_secs(5)).await.expect("closed");
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close"), "{answer}");
    assert_eq!((answer.matches("HTTP/1.1").count(), service.requests()), (1, 0), "{answer}");
}

#[tokio::test]
async fn huge_and_many_headers_are_refused() {
    let (service, gateway) = with_short_timeouts().await;
    let long = format!("GET /health HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: 1\r\n".repeat(10_000));
    for request in [long, many] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(request).await;
        let answer = raw.read_to_close(Duration::from_secs(5)).await.expect("closed");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert_eq!(service.requests(), 0);
}

#[tokio::test]
async fn half_a_header_behind_a_complete_request_is_not_idle() {
    let (_service, gateway) = with_short_timeouts().await;
    let mut raw = Raw::connect(gateway.address).await;
    raw.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHo").await;
    raw.read_until("{\"status\":\"ok\"}").await;
    let started = Instant::now();
    assert!(raw.read_to_close(Duration::from_secs(5)).await.is_some());
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let service = Service::start("fake").await;
    let gateway =
        TestGateway::with(vec![model("fake", &[&service])], |config| config.limits.max_connections = 3).await;
    let ask = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(ask).await;
        raw.read_until("{\"status\":\"ok\"}").await;
        idle.push(raw);
    }
    for closed in &mut idle[..17] {
        assert!(closed.read_to_close(Duration::from_secs(5)).await.is_some(), "it made room");
    }
    for open in &mut idle[17..] {
        open.send(ask).await;
        open.read_until("{\"status\":\"ok\"}").await;
    }
}

#[tokio::test]
async fn when_every_connection_is_busy_a_new_one_is_refused_at_once() {
    let service = Service::start("fake").await;
    let gateway =
        TestGateway::with(vec![model("fake", &[&service])], |config| config.limits.max_connections = 2).await;
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(gateway.get("/models/fake/held").send())).collect();
    service.holding(2).await;
    let started = Instant::now();
    let mut third = Raw::connect(gateway.address).await;
    third.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = third.read_to_close(Duration::from_secs(5)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    assert!(answer.contains("\"code\":\"overloaded\""), "{answer}");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    service.release();
    for one in held {
        assert_eq!(one.await.unwrap().unwrap().status(), 200);
    }
}
