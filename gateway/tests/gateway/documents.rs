//! The OpenAPI documents and Swagger UI.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use serde_json::Value;

use crate::service::Service;
use crate::test_gateway::{TestGateway, model};

/// The gateway's own document, as in `docs/openapi/gateway.json`.
const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi/gateway.json");

#[test]
fn the_checked_in_document_is_current() {
    let now = serde_json::to_value(videosdgx_gateway::openapi_document()).unwrap();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::create_dir_all(std::path::Path::new(CHECKED_IN).parent().unwrap()).unwrap();
        std::fs::write(CHECKED_IN, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let checked_in: Value = serde_json::from_str(&std::fs::read_to_string(CHECKED_IN).unwrap()).unwrap();
    assert!(checked_in == now, "docs/openapi/gateway.json is old: run this test with UPDATE_OPENAPI=1");
}

#[tokio::test]
async fn one_document_describes_the_gateway_and_every_service() {
    let (one, two) = (Service::start("one").await, Service::start("two").await);
    let gateway = TestGateway::with(vec![model("one", &[&one]), model("two", &[&two])], |_| {}).await;
    let document = async || -> Value {
        gateway.client.get(gateway.url("/openapi.json")).send().await.unwrap().json().await.unwrap()
    };
    gateway
        .eventually("both services are in it", async || {
            let paths = document().await["paths"].clone();
            ["one", "two"].iter().all(|name| paths[format!("/models/{name}/jobs/{{id}}")].is_object())
        })
        .await;
    let known = document().await;
    assert!(known["paths"]["/v1/videos"]["post"].is_object());
    assert!(known["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids: Vec<&str> = known["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
    // The last document of a service that goes down is kept.
    drop(two);
    gateway
        .eventually("it counts as down", async || {
            let ready: Value =
                gateway.client.get(gateway.url("/ready")).send().await.unwrap().json().await.unwrap();
            ready["models"][1]["available"] == false
        })
        .await;
    assert_eq!(document().await, known);
}

#[tokio::test]
async fn every_documented_path_of_the_gateway_exists() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let document = videosdgx_gateway::openapi_document();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let url = path.replace("{video_id}", "fake-0001").replace("{model}", "fake");
            let method = method.to_uppercase().parse().unwrap();
            let response = gateway.request(method, &url).send().await.unwrap();
            let status = response.status().as_u16();
            let documented = document["paths"][path].as_object().unwrap().values();
            let documented =
                documented.flat_map(|operation| operation["responses"].as_object().unwrap().keys());
            assert!(documented.clone().any(|known| *known == status.to_string()), "{url}: {status}");
            assert_ne!(status, 405, "{url}");
        }
    }
}

#[tokio::test]
async fn swagger_ui_loads_nothing_from_elsewhere() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let moved = gateway.client.get(gateway.url("/docs")).send().await.unwrap();
    assert_eq!((moved.status().as_u16(), &moved.headers()["location"]), (308, &"/docs/".parse().unwrap()));
    let page = gateway.client.get(gateway.url("/docs/")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
    let html = page.text().await.unwrap();
    assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
    let mut files = 0;
    for part in html.split(['"', '\'']).filter(|part| part.starts_with("./")) {
        let file = gateway.client.get(gateway.url(&format!("/docs/{}", &part[2..]))).send().await.unwrap();
        assert_eq!(file.status(), 200, "{part}");
        files += 1;
    }
    assert!(files >= 4, "{html}");
    let script = gateway
        .client
        .get(gateway.url("/docs/swagger-initializer.js"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(script.contains("/openapi.json"), "{script}");
    for missing in ["/docs/nothing.js", "/docs/../Cargo.toml", "/docs/%2e%2e/Cargo.toml"] {
        let status = gateway.client.get(gateway.url(missing)).send().await.unwrap().status().as_u16();
        assert!([401, 404].contains(&status), "{missing}: {status}");
    }
}
