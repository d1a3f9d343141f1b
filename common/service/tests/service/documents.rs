//! The OpenAPI document is checked in, and is the truth.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use std::path::Path;

use serde_json::Value;
use videosdgx_api::{
    Scope,
    routes::{Access, VIDEO_SERVICE},
};
use videosdgx_service::openapi_document;

use crate::support::{TestService, quick};

#[test]
fn the_checked_in_document_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi/service.json");
    let now = openapi_document("service").to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    assert!(
        known == now,
        "docs/openapi/service.json is old: look at the change and run this with UPDATE_OPENAPI=1"
    );
}

#[test]
fn each_operation_says_how_it_refuses() {
    let document: Value = serde_json::from_str(&openapi_document("service").to_json().unwrap()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let scheme = &document["components"]["securitySchemes"]["bearer"];
    assert_eq!((scheme["type"].as_str(), scheme["scheme"].as_str()), (Some("http"), Some("bearer")));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2') || status.starts_with('3')),
                "{name}"
            );
            if operation["security"].as_array().is_some_and(|needed| !needed.is_empty()) {
                for status in ["401", "403", "500"] {
                    assert!(responses.contains_key(status), "{name} has no {status}");
                }
            }
            if path.contains("{id}") {
                assert!(responses.contains_key("404"), "{name}");
            }
            for (status, response) in responses {
                assert!(response["headers"]["x-request-id"].is_object(), "{name} {status}");
                let refusal = status.starts_with('4') || status.starts_with('5');
                if refusal && method != "head" && path != "/ready" {
                    let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(schema, "#/components/schemas/Problem", "{name} {status}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn what_the_root_lists_is_what_the_document_describes_and_the_server_answers() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let document = tester.get("/openapi.json").await.expect(200);
    let root = tester.get("/").await.expect(200);
    let listed = root["endpoints"].as_array().unwrap();
    for endpoint in listed {
        let (method, path) = (endpoint["method"].as_str().unwrap(), endpoint["path"].as_str().unwrap());
        let described = &document["paths"][path][method.to_lowercase()];
        assert!(described.is_object(), "{method} {path} is not in the document");
        assert_eq!(described["summary"], endpoint["description"], "{method} {path}");
        let answer =
            tester.send(tester.request(method.parse().unwrap(), &path.replace("{id}", "fake-1"))).await;
        assert!(answer.status != 405, "{method} {path}");
        let known = described["responses"].as_object().unwrap();
        assert!(known.contains_key(&answer.status.to_string()), "{method} {path} answered {}", answer.status);
    }
    let count: usize =
        document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(count, listed.len() + 2, "only /docs/ and its files are not listed");
}

#[actix_web::test]
async fn every_route_requires_the_scope_of_the_route_table() {
    let service = TestService::start(quick()).await;
    for route in VIDEO_SERVICE.iter() {
        let path = route.path.replace("{id}", "no-such-id").replace("{file}", "index.html");
        let name = format!("{} {path}", route.method.as_str());
        let method = || route.method.as_str().parse().unwrap();
        let anonymous = service.anonymous();
        let without_token = anonymous.send(anonymous.request(method(), &path)).await.status;
        let Access::Scope(needed) = route.access else {
            assert_ne!(without_token, 401, "{name}");
            continue;
        };
        assert_eq!(without_token, 401, "{name}");
        for scope in Scope::ALL {
            let caller = service.client("somebody", scope.as_str());
            let status = caller.send(caller.request(method(), &path)).await.status;
            assert_eq!(status == 403, scope != needed, "{name} with {scope}: {status}");
        }
    }
}
