//! Who may do what. The routes come from the document, so a new one without a case fails here.

use reqwest::Method;
use serde_json::{Value, json};
use videosdgx_auth::AuthConfig;
use videosdgx_service::openapi_document;
use videosdgx_testing::TestClient;

use crate::support::{TestService, folder, quick};

/// `(method, path, scope)` of each operation.
fn operations() -> Vec<(Method, String, Option<String>)> {
    let document: Value = serde_json::from_str(&openapi_document("fake").to_json().unwrap()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scope = operation["security"][0]["bearer"][0].as_str().map(str::to_owned);
            let method = method.to_uppercase().parse().unwrap();
            operations.push((method, path.clone(), scope));
        }
    }
    assert!(operations.len() > 15);
    operations
}

const PUBLIC: [&str; 8] =
    ["/", "/health", "/ready", "/docs", "/docs/", "/docs/{file}", "/openapi.json", "/.well-known/jwks.json"];

#[actix_web::test]
async fn each_route_is_public_by_name_or_asks_for_its_scope() {
    let service = TestService::start(quick()).await;
    let anonymous = service.anonymous();
    for (method, path, scope) in operations() {
        let call =
            async |person: &TestClient| {
                person
                    .send(person.request(
                        method.clone(),
                        &path.replace("{id}", "fake-1").replace("{file}", "index.html"),
                    ))
                    .await
            };
        let Some(scope) = scope else {
            assert!(PUBLIC.contains(&path.as_str()), "{method} {path} asks for nothing");
            assert!(!matches!(call(&anonymous).await.status, 401 | 403), "{method} {path}");
            continue;
        };
        let refused = call(&anonymous).await;
        assert_eq!(refused.status, 401, "{method} {path}");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        let others = ["generate", "read", "admin"].into_iter().filter(|other| *other != scope);
        let without = service.client("tester", &others.collect::<Vec<_>>().join(" "));
        assert_eq!(call(&without).await.status, 403, "{method} {path}");
        let with = service.client("tester", &scope);
        assert!(!matches!(call(&with).await.status, 401 | 403), "{method} {path}");
    }
}

#[actix_web::test]
async fn other_peoples_jobs_do_not_exist() {
    let service = TestService::start(quick()).await;
    let (owner, other) = (service.tester(), service.client("other", "generate read admin"));
    let done = owner.submit_prompt("a").await;
    owner.finished(&done).await;
    let running = owner.submit_prompt("slow 60").await;
    owner.running(&running).await;
    for id in [&done, &running] {
        for (method, path, _) in operations() {
            if !path.contains("{id}") {
                continue;
            }
            let path = path.replace("{id}", id);
            let theirs = other.send(other.request(method.clone(), &path)).await;
            let nobodys =
                other.send(other.request(method.clone(), &path.replace(id.as_str(), "fake-nobody"))).await;
            assert_eq!((theirs.status, nobodys.status), (404, 404), "{method} {path}");
            if method != Method::HEAD {
                assert_eq!(theirs.code(404), "job_not_found");
                assert_eq!(theirs.json()["detail"], nobodys.json()["detail"], "nobody can tell which");
            }
        }
    }
    assert_eq!(other.get("/jobs").await.expect(200)["jobs"], json!([]));
    assert_eq!(owner.job(&running).await["status"], "processing", "nothing was cancelled");
    assert_eq!(owner.get(&format!("/jobs/{done}/download")).await.status, 200);
    owner.delete(&format!("/jobs/{running}")).await;
}

#[actix_web::test]
async fn keys_can_come_from_a_url() {
    let issuer = TestService::start(quick()).await;
    let url = format!("{}/.well-known/jwks.json", issuer.running.url());
    let service = TestService::start_in(folder(), quick(), |config, _| {
        config.auth = AuthConfig { jwks_url: Some(url), ..AuthConfig::default() };
    })
    .await;
    let person = TestClient { base: service.running.url(), ..issuer.tester() };
    assert_eq!(person.get("/jobs").await.status, 200);
    assert_eq!(
        TestClient { base: service.running.url(), ..issuer.anonymous() }.get("/jobs").await.status,
        401
    );
}

#[actix_web::test]
async fn bad_tokens_all_look_the_same() {
    let service = TestService::start(quick()).await;
    let good = service.tester().token;
    let tampered = format!("{}x", &good[..good.len() - 1]);
    let mut bodies = Vec::new();
    for token in ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", tampered.as_str(), &"x".repeat(9000)] {
        let answer = TestClient { token: token.to_owned(), ..service.anonymous() }.get("/jobs").await;
        assert_eq!(answer.code(401), "unauthorized");
        let mut body = answer.json();
        body["request_id"] = Value::Null;
        bodies.push(body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}
