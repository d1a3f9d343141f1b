//! Every documented operation has a case here that says which scope it needs; gateway and services are tested against it. An operation
//! without a case fails the test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::Value;
use videosdgx_tests::{Api, Service, Stack};

/// The scope that an operation needs, or none.
const SCOPES: [&str; 3] = ["read", "generate", "admin"];
const PUBLIC: &str = "public";

/// Operations of services of every kind.
const COMMON: [(&str, &str, &str); 12] = [
    ("get", "/", PUBLIC),
    ("get", "/health", PUBLIC),
    ("get", "/ready", PUBLIC),
    ("get", "/openapi.json", PUBLIC),
    ("get", "/docs", PUBLIC),
    ("get", "/docs/", PUBLIC),
    ("get", "/docs/{file}", PUBLIC),
    ("get", "/.well-known/jwks.json", PUBLIC),
    ("get", "/info", "read"),
    ("get", "/metrics", "read"),
    ("post", "/load", "generate"),
    ("post", "/unload", "admin"),
];

const VIDEO: [(&str, &str, &str); 9] = [
    ("post", "/generate", "generate"),
    ("post", "/generate/batch", "generate"),
    ("get", "/jobs", "read"),
    ("get", "/jobs/{id}", "read"),
    ("delete", "/jobs/{id}", "generate"),
    ("get", "/jobs/{id}/events", "read"),
    ("get", "/jobs/{id}/download", "read"),
    ("head", "/jobs/{id}/download", "read"),
    ("get", "/queue/status", "read"),
];

const TEXT: [(&str, &str, &str); 10] = [
    ("get", "/telemetry", "read"),
    ("get", "/dashboard", PUBLIC),
    ("get", "/v1/models", "read"),
    ("get", "/v1/models/{id}", "read"),
    ("post", "/v1/chat/completions", "generate"),
    ("post", "/v1/completions", "generate"),
    ("post", "/tokenize", "read"),
    ("post", "/detokenize", "read"),
    ("get", "/stream", "generate"),
    ("post", "/stream/generate", "generate"),
];

const GATEWAY: [(&str, &str, &str); 16] = [
    ("get", "/", PUBLIC),
    ("get", "/health", PUBLIC),
    ("get", "/ready", PUBLIC),
    ("get", "/.well-known/jwks.json", PUBLIC),
    ("get", "/metrics", "read"),
    ("get", "/v1/models", "read"),
    ("get", "/v1/models/{model}", "read"),
    ("post", "/v1/chat/completions", "generate"),
    ("post", "/v1/completions", "generate"),
    ("get", "/v1/videos", "read"),
    ("post", "/v1/videos", "generate"),
    ("get", "/v1/videos/{video_id}", "read"),
    ("delete", "/v1/videos/{video_id}", "generate"),
    ("post", "/v1/videos/{video_id}/cancel", "generate"),
    ("get", "/v1/videos/{video_id}/content", "read"),
    ("get", "/v1/videos/{video_id}/events", "read"),
];

type Cases = BTreeMap<(String, String), &'static str>;

fn cases(prefix: &str, parts: &[&[(&str, &str, &'static str)]]) -> Cases {
    let all = parts.iter().flat_map(|part| part.iter());
    all.map(|(method, path, scope)| (((*method).to_owned(), format!("{prefix}{path}")), *scope)).collect()
}

/// Method and path of each documented operation.
async fn documented(base: &str) -> Result<Vec<(String, String)>> {
    let document = Api::new(base, "").json("/openapi.json").await?;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().context("no paths")? {
        let methods = item.as_object().context("no methods")?.keys();
        let methods =
            methods.filter(|name| ["get", "put", "post", "delete", "head", "patch"].contains(&name.as_str()));
        operations.extend(methods.map(|method| (method.clone(), path.clone())));
    }
    Ok(operations)
}

/// Calls each documented operation without a token, with an invalid one, and with valid ones that lack the scope.
async fn hold(base: &str, cases: &Cases, token: impl Fn(&str) -> Result<String>) -> Result<()> {
    let mut operations = documented(base).await?;
    let start = Instant::now();
    while !missing(cases, &operations).is_empty() {
        // The gateway learns a service's document at its first look.
        let limit = start.elapsed() < Duration::from_secs(10);
        assert!(limit, "cases without an operation: {:?}", missing(cases, &operations));
        tokio::time::sleep(Duration::from_millis(20)).await;
        operations = documented(base).await?;
    }
    for (method, path) in operations {
        let scope = *cases.get(&(method.clone(), path.clone())).with_context(|| {
            format!(
                "{method} {path} is documented and has no case: say in tests/tests/access.rs who may call it"
            )
        })?;
        let filled = path.replace("{file}", "index.css").replace("{model}", "nobody");
        let filled = filled.replace("{id}", "fake-0k3f9a7c21xz").replace("{video_id}", "fake-0k3f9a7c21xz");
        let call = async |token: &str| -> Result<(u16, String)> {
            let answer =
                Api::new(base, token).request(Method::from_bytes(method.to_uppercase().as_bytes())?, &filled);
            let answer = answer.send().await?;
            Ok((answer.status().as_u16(), answer.text().await?))
        };
        let what = format!("{method} {base}{path}");
        for bad in ["", "nonsense"] {
            let (status, body) = call(bad).await?;
            if scope == PUBLIC {
                assert!(status < 400 || status == 503, "{what}: {status} {body}");
            } else {
                assert_eq!(status, 401, "{what}: {body}");
                let refusal: Value = serde_json::from_str(&body).unwrap_or_default();
                let code = refusal.get("code").or(refusal["error"].get("code"));
                assert!(
                    method == "head" || code.is_some_and(|code| code == "unauthorized"),
                    "{what}: {body}"
                );
            }
        }
        if scope != PUBLIC {
            let others: Vec<&str> = SCOPES.into_iter().filter(|other| *other != scope).collect();
            let (status, body) = call(&token(&others.join(" "))?).await?;
            assert_eq!(status, 403, "{what} with {others:?}: {body}");
        }
    }
    Ok(())
}

fn missing(cases: &Cases, operations: &[(String, String)]) -> Vec<(String, String)> {
    cases.keys().filter(|case| !operations.contains(case)).cloned().collect()
}

#[tokio::test]
async fn who_may_call_what_is_said_of_every_operation() -> Result<()> {
    for (service, own) in [(Service::Fake, VIDEO.as_slice()), (Service::FakeText, TEXT.as_slice())] {
        let stack = Stack::of(service)
            .gateway_env("VIDEOSDGX_PEER_RATE", "100000")
            .gateway_env("VIDEOSDGX_PRINCIPAL_RATE", "100000")
            .start()?;
        let token = |scopes: &str| stack.token("somebody", scopes);
        // A service that is reached directly is no hole.
        hold(stack.service()?.url(), &cases("", &[&COMMON, own]), token).await?;
        let mut all = cases(&stack.prefix(), &[&COMMON, own]);
        all.extend(cases("", &[&GATEWAY]));
        hold(stack.gateway.url(), &all, token).await?;
    }
    Ok(())
}
