//! The running programs are tested against their OpenAPI documents by schemathesis; Swagger UI works in a real browser.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use std::process::Command;

use anyhow::{Context, Result, bail};
use videosdgx_tests::{Service, Stack, StackBuilder, root};

/// Schemathesis sends valid and invalid requests, and fails on any 5xx, undocumented status, undocumented
/// content type or body that does not match its schema.
fn schemathesis(base: &str, token: &str, more: &[&str]) -> Result<()> {
    let python = std::env::var("VIDEOSDGX_TEST_PYTHON")
        .unwrap_or_else(|_| root().join(".venv/bin/python").display().to_string());
    let output = Command::new(&python)
        .args(["-m", "schemathesis.cli", "run", &format!("{base}/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        // One worker: compiling in two threads at once breaks CPython 3.11 ("AST constructor recursion depth mismatch").
        .args(["--max-examples", "25", "--workers", "1", "--request-timeout", "20"])
        // A service whose model is not loaded says so with a 503 on purpose.
        .args(["--exclude-path-regex", "/ready$", "--no-color"])
        .args(more)
        .current_dir(std::env::temp_dir())
        .output()
        .with_context(|| format!("cannot run {python}: run scripts/test once"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("schemathesis: {}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    println!("{text}");
    Ok(())
}

#[tokio::test]
async fn the_service_answers_as_its_document_says() -> Result<()> {
    let stack = Stack::of(Service::Fake).start()?;
    schemathesis(stack.service()?.url(), &stack.token("tester", "generate read admin")?, &[])
}

#[tokio::test]
async fn the_gateway_answers_as_its_document_says() -> Result<()> {
    let stack = Stack::of(Service::Fake)
        .gateway_env("VIDEOSDGX_PEER_RATE", "100000")
        .gateway_env("VIDEOSDGX_PRINCIPAL_RATE", "100000")
        .start()?;
    schemathesis(stack.gateway.url(), &stack.token("tester", "generate read admin")?, &[])
}

/// A text service with a small context, so that every generation is short.
fn text() -> StackBuilder {
    Stack::of(Service::FakeText).env("VIDEOSDGX_MAX_CONTEXT", "256")
}

#[tokio::test]
async fn the_text_service_answers_as_its_document_says() -> Result<()> {
    let stack = text().start()?;
    schemathesis(stack.service()?.url(), &stack.token("tester", "generate read admin")?, &[])
}

#[tokio::test]
async fn the_gateway_before_a_text_service_answers_as_its_document_says() -> Result<()> {
    let stack = text()
        .gateway_env("VIDEOSDGX_PEER_RATE", "100000")
        .gateway_env("VIDEOSDGX_PRINCIPAL_RATE", "100000")
        .start()?;
    // The rest has been held against its document beside the video service.
    let text_alone = ["--include-path-regex", "^/(v1/(chat/)?completions|v1/models|models/)"];
    schemathesis(stack.gateway.url(), &stack.token("tester", "generate read admin")?, &text_alone)
}

/// The document that headless Chromium renders at `url`.
fn rendered(url: &str) -> Result<String> {
    let profile = tempfile::tempdir()?;
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=10000", "--dump-dom", url])
        .output()
        .context("cannot run chromium: scripts/test installs it where it may")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn swagger_ui_renders_the_merged_document() -> Result<()> {
    let stack = Stack::of(Service::Fake).start()?;
    let page = rendered(&format!("{}/docs/", stack.gateway.url()))?;
    for expected in ["/v1/videos", "/models/fake/generate"] {
        assert!(page.contains(expected), "{expected} is not on the page:\n{page}");
    }
    let page = rendered(&format!("{}/docs/", stack.service()?.url()))?;
    assert!(page.contains("/generate"), "no routes on the service's page:\n{page}");
    let stack = text().start()?;
    let page = rendered(&format!("{}/docs/", stack.gateway.url()))?;
    for expected in ["/v1/chat/completions", "/models/fake-text/stream/generate"] {
        assert!(page.contains(expected), "{expected} is not on the page:\n{page}");
    }
    Ok(())
}
