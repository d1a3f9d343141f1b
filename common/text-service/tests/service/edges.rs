//! Authorization, what is never logged, and clients that disconnect.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use videosdgx_testing::{LogCapture, TestClient};
use videosdgx_text_service::openapi_document;

use crate::support::{TestService, TextClient as _, chat};

const PUBLIC: [&str; 9] = [
    "/",
    "/health",
    "/ready",
    "/dashboard",
    "/docs",
    "/docs/",
    "/docs/{file}",
    "/openapi.json",
    "/.well-known/jwks.json",
];

#[actix_web::test]
async fn each_route_is_public_by_name_or_asks_for_its_scope() {
    let service = TestService::start().await;
    let anonymous = service.anonymous();
    let document: Value = serde_json::from_str(&openapi_document("fake").to_json().unwrap()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let call = async |person: &TestClient| {
                let path = path.replace("{id}", "fake").replace("{file}", "index.html");
                person.send(person.request(method.clone(), &path)).await
            };
            let Some(scope) = operation["security"][0]["bearer"][0].as_str() else {
                assert!(PUBLIC.contains(&path.as_str()), "{method} {path} asks for nothing");
                assert!(!matches!(call(&anonymous).await.status, 401 | 403), "{method} {path}");
                continue;
            };
            assert_eq!(call(&anonymous).await.status, 401, "{method} {path}");
            let others = ["generate", "read", "admin"].into_iter().filter(|other| *other != scope);
            let without = service.client("tester", &others.collect::<Vec<_>>().join(" "));
            assert_eq!(call(&without).await.status, 403, "{method} {path}");
            let with = service.client("tester", scope);
            assert!(!matches!(call(&with).await.status, 401 | 403), "{method} {path}");
        }
    }
}

#[actix_web::test]
async fn refusals_have_the_form_of_their_place() {
    let service = TestService::start().await;
    let (tester, anonymous) = (service.tester(), service.anonymous());
    let refused = anonymous.chat("say a", json!({})).await;
    assert_eq!(refused.error(401).1, "unauthorized");
    assert_eq!(refused.json()["error"]["type"], "authentication_error");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    assert_eq!(tester.get("/v1/nothing").await.error(404).1, "not_found");
    assert_eq!(tester.get("/v1/completions").await.error(405).1, "method_not_allowed");
    let native = tester.get("/nothing").await;
    assert_eq!(native.header("content-type"), "application/problem+json");
    assert_eq!(native.json()["code"], "not_found");
    let bad = tester.post("/stream/generate", json!({"prompt": 5})).await;
    assert_eq!((bad.status, bad.header("content-type")), (400, "application/problem+json"));
    assert_eq!(bad.json()["field"], "prompt");
}

#[actix_web::test]
async fn a_client_that_disconnects_frees_its_sequence() {
    let service = TestService::start_with(|test| {
        test.backend.step_time = Duration::from_millis(2);
        test.backend.max_context = 1 << 20;
    })
    .await;
    let tester = service.tester();
    for more in [json!({"stream": true}), json!({})] {
        let request =
            tester.request(Method::POST, "/v1/chat/completions").json(&chat("forever", more.clone()));
        let open = tokio::spawn(async move {
            let mut response = request.send().await.unwrap();
            while response.chunk().await.unwrap().is_some() {}
        });
        tester.until_running(1).await;
        open.abort();
        tester.until_running(0).await;
    }
}

#[actix_web::test]
async fn neither_prompts_nor_answers_nor_tokens_are_logged() {
    let capture = LogCapture::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::INFO)
        .with_writer(capture.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let service = TestService::start().await;
    let tester = service.tester();
    tester.chat("say canaryanswer", json!({"user": "canaryuser"})).await.expect(200);
    tester.chat("fail canaryfail", json!({})).await.expect(500);
    tester.chat("canarybad", json!({"temperature": 9})).await.error(400);
    let mut socket = tester.socket().await;
    socket.say(json!({"type": "generate", "prompt": "canarysocket", "max_tokens": 3})).await;
    socket.hear_until("complete").await;
    let log = capture.text();
    assert!(log.contains("/v1/chat/completions"), "{log}");
    for secret in ["canary", tester.token.as_str()] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

/// Messages name the file that is wrong; only an operator, who has the scope `admin`, is told in which folder it is.
#[actix_web::test]
async fn folders_of_the_machine_are_shown_to_admins_only() {
    let service = TestService::start().await;
    let broken = service.folder.path().join("checkpoint/broken");
    std::fs::write(&broken, "").unwrap();
    let (user, admin) = (service.client("ada", "generate read"), service.tester());
    let folder = service.folder.path().to_str().unwrap();
    for path in ["/v1/chat/completions", "/load?wait=true"] {
        let body = chat("say a", json!({}));
        let shown = user.post(path, body.clone()).await;
        assert_eq!(shown.status, 503, "{}", shown.text());
        let shown = shown.text();
        assert!(shown.contains("…/checkpoint/broken") && !shown.contains(folder), "{path}: {shown}");
        assert!(admin.post(path, body).await.text().contains(broken.to_str().unwrap()), "{path}");
    }
    for path in ["/ready", "/info"] {
        let shown = user.get(path).await.text();
        assert!(shown.contains("…/checkpoint/broken") && !shown.contains(folder), "{path}: {shown}");
    }
    let mut socket = user.socket().await;
    socket.say(json!({"type": "generate", "prompt": "abc"})).await;
    let refused = socket.hear_until("error").await.pop().unwrap().to_string();
    assert!(refused.contains("…/checkpoint/broken") && !refused.contains(folder), "{refused}");
}
