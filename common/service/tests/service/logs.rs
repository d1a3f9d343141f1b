//! What must never be in a log line.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;

use crate::support::{TestService, quick};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[actix_web::test]
async fn neither_prompts_nor_tokens_are_logged_and_jobs_can_be_followed() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::INFO)
        .with_writer(captured.clone())
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
    let bad = crate::support::Api { token: "canarytoken".to_owned(), ..service.stranger() };
    assert_eq!(bad.get("/jobs?status=canaryquery").await.status, 401);
    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
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
