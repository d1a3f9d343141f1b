//! What holds for every answer: request ids, problem documents, methods, slow clients.

use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{TestService, quick};

#[actix_web::test]
async fn each_answer_has_a_request_id_and_sane_ones_are_kept() {
    let service = TestService::start(quick()).await;
    let anonymous = service.anonymous();
    let asked = async |id: &str| {
        let request = anonymous.request(Method::GET, "/health").header("x-request-id", id);
        anonymous.send(request).await.header("x-request-id").to_owned()
    };
    assert_eq!(asked("abc-123_4.5").await, "abc-123_4.5");
    for odd in ["", "a b", "<script>", &"x".repeat(129), "a\tb"] {
        let given = asked(odd).await;
        assert!(given != odd && given.len() == 36, "{odd:?} became {given:?}");
    }
    let missing =
        anonymous.send(anonymous.request(Method::GET, "/nope").header("x-request-id", "find-me")).await;
    assert_eq!(missing.code(404), "not_found");
    assert_eq!(missing.json()["request_id"], "find-me");
    assert_eq!(missing.header("x-content-type-options"), "nosniff");
}

#[actix_web::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    for (method, path, allow) in [
        (Method::PUT, "/jobs", "GET, HEAD"),
        (Method::GET, "/generate", "POST"),
        (Method::POST, "/jobs/fake-1", "GET, HEAD, DELETE"),
        (Method::DELETE, "/jobs/fake-1/download", "GET, HEAD"),
        (Method::PATCH, "/", "GET, HEAD"),
    ] {
        let answer = tester.send(tester.request(method.clone(), path)).await;
        assert_eq!(answer.code(405), "method_not_allowed", "{method} {path}");
        assert_eq!(answer.header("allow"), allow);
    }
    let head = tester.send(tester.request(Method::HEAD, "/info")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[actix_web::test]
async fn the_documentation_is_served_from_here_and_from_nowhere_else() {
    let service = TestService::start(quick()).await;
    let anonymous = service.anonymous();
    let redirect = anonymous.get("/docs").await;
    assert_eq!((redirect.status, redirect.header("location")), (308, "docs/"));
    let page = anonymous.get("/docs/").await;
    assert!(page.text().contains("swagger-ui-bundle.js"), "{}", page.text());
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(page.header("x-frame-options"), "DENY");
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js", "index.html"] {
        let answer = anonymous.get(&format!("/docs/{file}")).await;
        assert_eq!(answer.status, 200, "{file}");
        assert!(!answer.body.is_empty());
    }
    assert!(anonymous.get("/docs/swagger-initializer.js").await.text().contains("../openapi.json"));
    assert_eq!(anonymous.get("/docs/nope.js").await.code(404), "not_found");
    let jwks = anonymous.get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(jwks["keys"][0]["kty"], "OKP");
    assert!(jwks["keys"][0].get("d").is_none(), "the private part stays here");
}

#[actix_web::test]
async fn clients_that_send_half_a_request_are_sent_away() {
    let service = TestService::start(quick()).await;
    let token = service.tester().token;
    let body = format!(
        "POST /generate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"pro"
    );
    let starts = ["".to_owned(), "GET /health HTTP/1.1\r\nhost: x\r\nx-a: ".to_owned(), body];
    let gone = starts.map(|start| {
        let address = service.running.address();
        async move {
            let began = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer))
                .await
                .unwrap()
                .ok();
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "{start:?} was kept for {:?}",
                began.elapsed()
            );
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        }
    });
    let honest = async {
        let anonymous = service.anonymous();
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(anonymous.get("/health").await.status, 200);
            assert!(began.elapsed() < Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    futures::future::join(futures::future::join_all(gone), honest).await;
}
