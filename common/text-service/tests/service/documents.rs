//! The OpenAPI document: the committed file is current, and describes what the server does.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use std::path::Path;

use serde_json::Value;
use videosdgx_text_service::openapi_document;

use crate::support::TestService;

#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi/text.json");
    let now = openapi_document("text").to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    assert!(
        known == now,
        "docs/openapi/text.json is outdated: review the change and run this test with UPDATE_OPENAPI=1"
    );
}

#[test]
fn each_operation_describes_its_errors() {
    let document: Value = serde_json::from_str(&openapi_document("text").to_json().unwrap()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| matches!(&status[..1], "1" | "2" | "3")), "{name}");
            if operation["security"].as_array().is_some_and(|needed| !needed.is_empty()) {
                for status in ["401", "403", "500"] {
                    assert!(responses.contains_key(status), "{name} has no {status}");
                }
            }
            if method == "post" {
                for status in ["400", "408", "413", "503"] {
                    assert!(responses.contains_key(status) || path == "/unload", "{name} has no {status}");
                }
            }
            let openai = path.starts_with("/v1/") || matches!(path.as_str(), "/tokenize" | "/detokenize");
            let (kind, schema) = if openai {
                ("application/json", "ErrorBody")
            } else {
                ("application/problem+json", "Problem")
            };
            for (status, response) in responses {
                assert!(response["headers"]["x-request-id"].is_object(), "{name} {status}");
                if matches!(&status[..1], "4" | "5") && path != "/ready" {
                    let found = &response["content"][kind]["schema"]["$ref"];
                    assert_eq!(found, &format!("#/components/schemas/{schema}"), "{name} {status}");
                }
            }
        }
    }
}

#[test]
fn every_reference_of_the_document_resolves() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(reference) if name == "$ref" => found.push(reference.to_owned()),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&openapi_document("text").to_json().unwrap()).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50);
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}

#[actix_web::test]
async fn the_root_lists_the_operations_of_the_document() {
    let service = TestService::start().await;
    let tester = service.tester();
    let document = tester.get("/openapi.json").await.expect(200);
    let root = tester.get("/").await.expect(200);
    assert_eq!(root["checkpoint"], "fake-bytes");
    let listed = root["endpoints"].as_array().unwrap();
    for endpoint in listed {
        let (method, path) = (endpoint["method"].as_str().unwrap(), endpoint["path"].as_str().unwrap());
        let described = &document["paths"][path][method.to_lowercase()];
        assert!(described.is_object(), "{method} {path} is not in the document");
        assert_eq!(described["summary"], endpoint["description"], "{method} {path}");
        let answer =
            tester.send(tester.request(method.parse().unwrap(), &path.replace("{id}", "fake"))).await;
        let known = described["responses"].as_object().unwrap();
        assert!(known.contains_key(&answer.status.to_string()), "{method} {path} answered {}", answer.status);
    }
    let count: usize =
        document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(count, listed.len() + 2, "only /docs/ and its files are not listed");
}
