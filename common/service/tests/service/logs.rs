//! What must never be in a log line.

use videosdgx_testing::{LogCapture, TestClient};

use crate::support::{TestService, quick};

#[actix_web::test]
async fn neither_prompts_nor_tokens_are_logged_and_jobs_can_be_followed() {
    let capture = LogCapture::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::INFO)
        .with_writer(capture.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let request = tester.request(reqwest::Method::POST, "/generate").header("x-request-id", "follow-me");
    let body = serde_json::json!({"prompt": "canaryprompt walking", "negative_prompt": "canarynegative"});
    let accepted = tester.send(request.json(&body)).await.expect(202);
    let id = accepted["job_id"].as_str().unwrap();
    tester.finished(id).await;
    let failing = tester.submit_prompt("fail canaryprompt").await;
    tester.finished(&failing).await;
    tester.post("/generate", serde_json::json!({"prompt": "canaryprompt", "fps": 0})).await.expect(400);
    let bad = TestClient { token: "canarytoken".to_owned(), ..service.anonymous() };
    assert_eq!(bad.get("/jobs?status=canaryquery").await.status, 401);
    let log = capture.text();
    for secret in ["canary", tester.token.as_str()] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |event: &str| {
        lines
            .iter()
            .find(|line| line["fields"]["message"] == event)
            .unwrap_or_else(|| panic!("no {event} in {log}"))
    };
    assert_eq!(named("job_accepted")["span"]["request_id"], "follow-me");
    assert_eq!(named("job_accepted")["fields"]["job_id"], id);
    let span = &named("job_completed")["span"];
    assert_eq!(
        (span["job_id"].as_str(), span["model"].as_str(), span["attempt"].as_u64()),
        (Some(id), Some("fake"), Some(1))
    );
}
