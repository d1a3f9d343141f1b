//! Every documented operation of gateway and services is called without a token, with an invalid one, and with tokens that lack the
//! scope of its route table. An operation that no table has fails the test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::Value;
use videosdgx_api::routes::{Access, RouteTable, TEXT_SERVICE, VIDEO_SERVICE};
use videosdgx_tests::{Api, Service, Stack};

/// The scope that an operation needs, or none.
const SCOPES: [&str; 3] = ["read", "generate", "admin"];
const PUBLIC: &str = "public";

/// Operations of the gateway itself.
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

fn gateway_cases() -> Cases {
    GATEWAY.iter().map(|&(method, path, scope)| ((method.to_owned(), path.to_owned()), scope)).collect()
}

/// The routes of a service, below `prefix`.
fn service_cases(prefix: &str, table: RouteTable) -> Cases {
    let case = |route: &videosdgx_api::routes::Route| {
        let scope = match route.access {
            Access::Public => PUBLIC,
            Access::Scope(scope) => scope.as_str(),
        };
        ((route.method.as_str().to_lowercase(), format!("{prefix}{}", route.path)), scope)
    };
    table.iter().map(case).collect()
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
        // A route with GET also answers HEAD.
        let declared = if method == "head" { "get" } else { &method };
        let scope = *cases
            .get(&(declared.to_owned(), path.clone()))
            .with_context(|| format!("{method} {path} is documented and is in no route table"))?;
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
async fn every_operation_requires_its_scope() -> Result<()> {
    for (service, table) in [(Service::Fake, VIDEO_SERVICE), (Service::FakeText, TEXT_SERVICE)] {
        let stack = Stack::of(service)
            .gateway_env("VIDEOSDGX_PEER_RATE", "100000")
            .gateway_env("VIDEOSDGX_PRINCIPAL_RATE", "100000")
            .start()?;
        let token = |scopes: &str| stack.token("somebody", scopes);
        // Services check tokens themselves.
        hold(stack.service()?.url(), &service_cases("", table), token).await?;
        let mut all = service_cases(&stack.prefix(), table);
        all.extend(gateway_cases());
        hold(stack.gateway.url(), &all, token).await?;
    }
    Ok(())
}
