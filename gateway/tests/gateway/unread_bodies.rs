//! Requests that are answered before their body has been read.

use std::io::Write as _;
use std::time::Duration;

use serde_json::Value;
use videosdgx_auth::Scopes;

use crate::raw::Raw;
use crate::service::Service;
use crate::test_gateway::{TestGateway, model};

/// Heads of requests that are refused by their head alone, with the expected status.
fn refused(gateway: &TestGateway) -> [(String, u16); 4] {
    let token = gateway.token("ada", Scopes::all());
    [
        ("POST /v1/videos HTTP/1.1\r\nHost: x\r\n".to_owned(), 401),
        (format!("POST /nothing HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"), 404),
        (format!("POST /models/none/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"), 404),
        (format!("PUT /v1/videos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"), 405),
    ]
}

#[tokio::test]
async fn a_short_rest_is_discarded_and_the_connection_used_again() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    for (head, status) in refused(&gateway) {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(format!("{head}Content-Length: 60000\r\n\r\n")).await;
        let answer = raw.read_until("}").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
        // The body arrives after the answer, as from a client that sends while it does not read.
        raw.send("x".repeat(60_000)).await;
        raw.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let next = raw.read_until("{\"status\":\"ok\"}").await;
        assert!(next.starts_with("HTTP/1.1 200"), "{status}: {next}");
    }
}

#[tokio::test]
async fn a_long_rest_closes_the_connection_and_the_answer_says_so() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let framings = [
        "Content-Length: 1000000",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue\r\nContent-Length: 9",
    ];
    let cases = refused(&gateway)
        .into_iter()
        .flat_map(|(head, status)| framings.map(|framing| (format!("{head}{framing}\r\n\r\n"), status)));
    let address = gateway.address;
    // The connection stays open for a moment, so that the client can read.
    futures::future::join_all(cases.map(|(request, status)| async move {
        let mut raw = Raw::connect(address).await;
        raw.send(&request).await;
        let answer = raw.read_to_close(Duration::from_secs(5)).await.expect("it is closed");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{request}: {answer}");
        assert!(answer.ends_with('}'), "the whole answer arrives: {answer}");
    }))
    .await;
}

/// A client that sends its whole body before it reads gets the answer, not a reset connection.
#[tokio::test]
async fn the_answer_reaches_a_client_that_is_still_sending() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::with(vec![model("fake", &[&service])], |config| {
        config.limits.max_body_bytes = 1 << 20;
    })
    .await;
    let address = gateway.address;
    let answers = tokio::task::spawn_blocking(move || {
        (0..10)
            .map(|_| {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let length = 4 << 20;
                write!(stream, "POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
                    .unwrap();
                stream.write_all(&vec![b'x'; length]).expect("the gateway reads on");
                let mut answer = [0; 12];
                std::io::Read::read_exact(&mut stream, &mut answer).expect("an answer");
                String::from_utf8_lossy(&answer).into_owned()
            })
            .collect::<Vec<_>>()
    });
    for answer in answers.await.unwrap() {
        assert_eq!(answer, "HTTP/1.1 401");
    }
}

/// The facade reads bodies itself, so it refuses a content coding as the services do.
#[tokio::test]
async fn encoded_bodies_are_415_under_v1() {
    let service = Service::start("text-smol").await;
    let gateway = TestGateway::with(vec![model("text-smol", &[&service])], |_| {}).await;
    gateway.ready().await;
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/videos"] {
        for coding in ["gzip", "deflate", "identity, gzip"] {
            let request = gateway.post(path).header("content-type", "application/json");
            let answer =
                request.header("content-encoding", coding).body(vec![0x1f, 0x8b, 8]).send().await.unwrap();
            assert_eq!(answer.status(), 415, "{path} {coding}");
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["error"]["code"], "unsupported_media_type", "{path}: {body}");
        }
    }
    let plain = gateway.post("/v1/completions").header("content-type", "application/json");
    let plain = plain.header("content-encoding", "identity").body(r#"{"model": "text-smol", "prompt": "p"}"#);
    assert_eq!(plain.send().await.unwrap().status(), 200);
}
