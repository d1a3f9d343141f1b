//! Connections and bodies that are slow, incomplete or too many.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::TestService;

/// A service with short time limits.
async fn with_short_timeouts() -> TestService {
    TestService::start_with(|test| {
        test.config.timeouts.header = Duration::from_millis(300);
        test.config.timeouts.write_stall = Duration::from_millis(500);
    })
    .await
}

/// Sends a byte every 50 ms until the service closes the connection; what it said, and when it closed.
async fn dribble(stream: &mut TcpStream, byte: &[u8]) -> (String, Duration) {
    let began = Instant::now();
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while began.elapsed() < Duration::from_secs(10) {
        match tokio::time::timeout(Duration::from_millis(50), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return (String::from_utf8(said).unwrap(), began.elapsed()),
            Ok(Ok(count)) => said.extend_from_slice(&buffer[..count]),
            Err(_) => {
                let _ = stream.write_all(byte).await;
            }
        }
    }
    panic!("the connection stays open: {}", String::from_utf8_lossy(&said));
}

#[actix_web::test]
async fn a_body_may_not_dribble_after_its_refusal() {
    let service = with_short_timeouts().await;
    for head in ["POST /v1/chat/completions", "POST /nothing", "DELETE /health"] {
        let mut stream = TcpStream::connect(service.running.address()).await.unwrap();
        let head = format!("{head} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (said, after) = dribble(&mut stream, b"1\r\nx\r\n").await;
        assert!(said.starts_with("HTTP/1.1 4"), "{said}");
        assert!(after < Duration::from_secs(3), "{head} {after:?}");
    }
}

#[actix_web::test]
async fn half_a_header_behind_a_complete_request_is_not_idle() {
    let service = with_short_timeouts().await;
    let mut stream = TcpStream::connect(service.running.address()).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nX-A: ").await.unwrap();
    let (said, after) = dribble(&mut stream, b"x").await;
    assert!(said.starts_with("HTTP/1.1 200") && after < Duration::from_secs(3), "{after:?} {said}");
}

/// Waits until the service has read at least `bytes` of unfinished bodies.
async fn until_held(service: &TestService, bytes: usize) {
    let tester = service.tester();
    let began = Instant::now();
    loop {
        let metrics = tester.get("/metrics").await.text();
        let held = metrics.lines().find_map(|line| line.strip_prefix("videosdgx_held_bodies_bytes{"));
        let held: usize = held.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        if held >= bytes {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{held} of {bytes} bytes are held");
    }
}

#[actix_web::test]
async fn bodies_that_are_held_are_shared_between_principals() {
    let service = TestService::start_with(|test| {
        test.config.held_bodies = 4 << 20;
        test.config.held_bodies_per_principal = 2 << 20;
    })
    .await;
    let greedy = service.client("greedy", "read");
    let head = format!(
        "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 1000000\r\n\r\n",
        greedy.token
    );
    let mut unfinished = Vec::new();
    for count in 1..=2 {
        let mut stream = TcpStream::connect(service.running.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; 900_000]).await.unwrap();
        unfinished.push(stream);
        until_held(&service, count * 900_000).await;
    }
    // The third one exceeds its principal's share and is refused without waiting for the rest of it.
    let mut third = TcpStream::connect(service.running.address()).await.unwrap();
    third.write_all(head.as_bytes()).await.unwrap();
    // The service may refuse it meanwhile.
    let _ = third.write_all(&vec![b' '; 900_000]).await;
    let mut refused = [0; 12];
    tokio::time::timeout(Duration::from_secs(4), third.read_exact(&mut refused)).await.unwrap().unwrap();
    assert_eq!(&refused, b"HTTP/1.1 429");
    let prompt = json!({"prompt": "x".repeat(500_000)});
    assert_eq!(greedy.post("/tokenize", prompt.clone()).await.error(429).1, "rate_limited");
    let other = service.client("other", "read");
    assert!(other.post("/tokenize", prompt).await.expect(200)["count"].as_u64().unwrap() >= 500_000);
}

#[actix_web::test]
async fn a_body_that_comes_fast_and_then_rests_is_too_slow() {
    let service = TestService::start().await;
    let token = service.tester().token;
    let mut stream = TcpStream::connect(service.running.address()).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {token}\r\nContent-Length: 4000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; 3_000_000]).await.unwrap();
    let (said, after) = dribble(&mut stream, b"").await;
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("request_timeout"), "{said}");
    assert!(after < Duration::from_secs(9), "{after:?}");
}

#[actix_web::test]
async fn ambiguous_requests_are_refused() {
    let service = TestService::start().await;
    let head = "POST /load HTTP/1.1\r\nHost: x\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for request in [
        format!("{head}\r\n").replace("\r\n", "\n"),
        format!("{head}X-A: 1\n\r\n"),
        format!("{head}X-A: a\rb\r\n\r\n"),
        format!("{head}{chunked}{chunked}\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Content-Length: 4\r\n{chunked}\r\n0\r\n\r\n"),
        format!("{head}{chunked}Content-Length: 4\r\n\r\n0\r\n\r\n"),
        format!("{head}Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        format!("{head}\r\n").replace("Host: x\r\n", ""),
        format!("{head}Host: x\r\n\r\n"),
    ] {
        for before in ["", "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let mut stream = TcpStream::connect(service.running.address()).await.unwrap();
            stream
                .write_all(format!("{before}{request}GET /health HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let mut said = String::new();
            let read = stream.read_to_string(&mut said);
            tokio::time::timeout(Duration::from_secs(10), read).await.expect("it is closed").unwrap();
            let statuses: Vec<&str> = said.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
            let expected = if before.is_empty() { &["400"][..] } else { &["200", "400"] };
            assert_eq!(statuses, expected, "{request:?}: {said}");
        }
    }
}
