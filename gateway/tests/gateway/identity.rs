//! Authentication, scopes and origins.

use reqwest::Method;
use serde_json::Value;
use videosdgx_auth::Scope;

use crate::service::Service;
use crate::test_gateway::TestGateway;

#[tokio::test]
async fn without_a_token_only_documents_and_health_are_served() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    gateway.ready().await;
    for path in [
        "/",
        "/health",
        "/ready",
        "/docs/",
        "/openapi.json",
        "/.well-known/jwks.json",
        "/models/fake/",
        "/models/fake/health",
        "/models/fake/openapi.json",
    ] {
        assert_eq!(gateway.client.get(gateway.url(path)).send().await.unwrap().status(), 200, "{path}");
    }
    let mut bodies = Vec::new();
    for path in
        ["/metrics", "/nothing", "/models/fake/echo", "/models/none/echo", "/models/fake/jobs/fake-0001"]
    {
        for token in [None, Some("nonsense"), Some("a.b.c")] {
            let mut request = gateway.client.get(gateway.url(path)).header("x-request-id", "same");
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{path}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            bodies.push(response.text().await.unwrap());
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(service.requests(), 0, "nothing of it reached the service");
}

#[tokio::test]
async fn a_missing_scope_is_named_and_the_request_refused() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    for (scope, method, path, needed) in [
        (Scope::Read, Method::POST, "/models/fake/generate", "generate"),
        (Scope::Read, Method::POST, "/models/fake/load", "generate"),
        (Scope::Generate, Method::GET, "/models/fake/jobs", "read"),
        (Scope::Generate, Method::POST, "/models/fake/unload", "admin"),
        (Scope::Admin, Method::DELETE, "/models/fake/jobs/fake-0001", "generate"),
        (Scope::Generate, Method::GET, "/metrics", "read"),
    ] {
        let response = gateway.as_of("ada", scope, method, path).send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert_eq!(challenge, format!("Bearer error=\"insufficient_scope\", scope=\"{needed}\""));
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "insufficient_scope");
        assert!(problem["detail"].as_str().unwrap().contains(needed));
    }
    assert_eq!(service.requests(), 0);
}

#[tokio::test]
async fn errors_speak_openai_under_v1() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let response = gateway.client.get(gateway.url("/v1/models")).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        (&body["error"]["type"], &body["error"]["code"]),
        (&"authentication_error".into(), &"unauthorized".into())
    );
    let response = gateway.as_of("ada", Scope::Read, Method::POST, "/v1/videos").send().await.unwrap();
    assert_eq!(response.status(), 403);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["type"], "permission_error");
    let response = gateway.get("/v1/nothing").send().await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "not_found");
    let response = gateway.request(Method::PUT, "/v1/videos").send().await.unwrap();
    assert_eq!(response.status(), 405);
    let allow = response.headers()["allow"].to_str().unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "method_not_allowed");
}

#[tokio::test]
async fn services_get_the_callers_token_and_jobs_are_private() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    gateway.post("/models/fake/generate").body(r#"{"prompt":"p"}"#).send().await.unwrap();
    for path in [
        "/models/fake/jobs/fake-0001",
        "/models/fake/jobs/fake-0001/download",
        "/v1/videos/fake-0001",
        "/v1/videos/fake-0001/content",
    ] {
        assert_eq!(
            gateway.as_of("eve", Scope::Read, Method::GET, path).send().await.unwrap().status(),
            404,
            "{path}"
        );
    }
    let list: Value = gateway
        .as_of("eve", Scope::Read, Method::GET, "/v1/videos")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(list["data"], serde_json::json!([]));
    for (method, path) in
        [(Method::DELETE, "/v1/videos/fake-0001"), (Method::POST, "/v1/videos/fake-0001/cancel")]
    {
        let token = gateway.token("eve", videosdgx_auth::Scopes::all());
        let response =
            gateway.client.request(method, gateway.url(path)).bearer_auth(token).send().await.unwrap();
        assert_eq!(response.status(), 404);
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "job_not_found");
    }
    assert_eq!(gateway.get("/models/fake/jobs/fake-0001").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn only_listed_origins_are_allowed() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::with(vec![crate::test_gateway::model("fake", &[&service])], |config| {
        config.cors_origins = vec!["https://studio.example".to_owned()];
    })
    .await;
    for (origin, allowed) in
        [("https://studio.example", true), ("https://evil.example", false), ("null", false)]
    {
        let preflight = gateway
            .client
            .request(Method::OPTIONS, gateway.url("/v1/videos"))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization, idempotency-key");
        let response = preflight.send().await.unwrap();
        let allow =
            response.headers().get("access-control-allow-origin").map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(allow.as_deref(), allowed.then_some(origin));
        let response = gateway.get("/models/fake/echo").header("origin", origin).send().await.unwrap();
        let allow =
            response.headers().get("access-control-allow-origin").map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(allow.as_deref(), allowed.then_some(origin), "the service's own `*` does not count");
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
    }
    // A page of a listed origin can also read a refusal.
    let refused =
        gateway.client.get(gateway.url("/v1/models")).header("origin", "https://studio.example").send();
    let refused = refused.await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["access-control-allow-origin"], "https://studio.example");
}

/// The preflight request of a page that uses OpenAI's JavaScript library.
#[tokio::test]
async fn pages_of_listed_origins_may_send_the_headers_of_openais_library() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::with(vec![crate::test_gateway::model("fake", &[&service])], |config| {
        config.cors_origins = vec!["http://localhost:5173".to_owned()];
    })
    .await;
    let asked = "authorization,content-type,openai-organization,openai-project,x-stainless-arch,x-stainless-lang,\
                 x-stainless-os,x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,\
                 x-stainless-runtime-version,x-stainless-timeout";
    let preflight = async |origin: &str, headers: &str| {
        let request = gateway
            .client
            .request(Method::OPTIONS, gateway.url("/v1/chat/completions"))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", headers);
        request.send().await.unwrap()
    };
    let answer = preflight("http://localhost:5173", asked).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-headers"], asked);
    assert_eq!(answer.headers()["access-control-allow-origin"], "http://localhost:5173");
    let answer = preflight("http://localhost:5173", "x-stainless-lang,cookie,x-forwarded-for").await;
    assert_eq!(answer.headers()["access-control-allow-headers"], "x-stainless-lang");
    let answer = preflight("https://evil.example", asked).await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn every_answer_has_the_headers_that_protect_browsers() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    gateway.ready().await;
    for (path, cache) in [
        ("/", "no-store"),
        ("/health", "no-store"),
        ("/openapi.json", "no-store"),
        ("/v1/models", "no-store"),
        ("/metrics", "no-store"),
        ("/nothing", "no-store"),
        ("/models/fake/echo", "no-store"),
        ("/models/none/echo", "no-store"),
        ("/.well-known/jwks.json", "public, max-age=60"),
        ("/docs", "no-store"),
        ("/docs/", "no-cache"),
        ("/docs/swagger-ui.css", "no-cache"),
    ] {
        for response in [gateway.get(path), gateway.client.get(gateway.url(path))] {
            let response = response.send().await.unwrap();
            let headers = response.headers();
            assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
            assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
            let expected = if response.status() == 401 { "no-store" } else { cache };
            assert_eq!(headers["cache-control"], expected, "{path}");
        }
    }
    let settings = gateway.client.get(gateway.url("/docs/swagger-initializer.js")).send().await.unwrap();
    let settings = settings.text().await.unwrap();
    assert!(settings.contains("/openapi.json"), "{settings}");
    assert!(!settings.contains("\"persistAuthorization\": true"), "tokens are not stored: {settings}");
}
