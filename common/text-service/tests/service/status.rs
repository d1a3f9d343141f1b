//! Status, metrics and telemetry.

use reqwest::Method;
use serde_json::json;

use crate::support::TestService;

#[actix_web::test]
async fn the_first_request_loads_the_model_and_unload_frees_it() {
    let service = TestService::start().await;
    let tester = service.tester();
    let ready = tester.get("/ready").await.expect(503);
    assert_eq!((&ready["accepting_jobs"], &ready["loader"]["state"]), (&json!(true), &json!("unloaded")));
    let asked = futures::future::join_all((0..8).map(|_| tester.chat("say a", json!({})))).await;
    assert!(asked.iter().all(|answer| answer.status == 200));
    assert_eq!(service.backend.loads.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(tester.get("/ready").await.status, 200);
    let freed = tester.post("/unload", json!({})).await.expect(200);
    assert_eq!((&freed["status"], &freed["model_name"]), (&json!("unloaded"), &json!("fake")));
    assert_eq!(tester.get("/ready").await.status, 503);
    assert_eq!(tester.chat("say a", json!({})).await.status, 200, "and it is loaded again");
}

#[actix_web::test]
async fn a_failed_load_is_reported_before_the_response_begins() {
    let service = TestService::start().await;
    let tester = service.tester();
    std::fs::write(service.backend.folder.join("broken"), "").unwrap();
    for more in [json!({}), json!({"stream": true})] {
        assert_eq!(tester.chat("say a", more).await.error(503).1, "checkpoint_invalid");
    }
    std::fs::remove_file(service.backend.folder.join("broken")).unwrap();
    assert_eq!(tester.chat("say a", json!({})).await.status, 200);

    let poor = TestService::start_with(|test| test.backend.declared_peak = u64::MAX / 4).await;
    let answer = poor.tester().chat("say a", json!({})).await;
    assert_eq!(answer.error(503).1, "insufficient_memory");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);

    let missing = TestService::start().await;
    std::fs::remove_dir_all(&missing.backend.folder).unwrap();
    assert_eq!(missing.tester().chat("say a", json!({})).await.error(503).1, "checkpoint_missing");
    let info = missing.tester().get("/info").await.expect(200);
    assert!(info["model"].is_null() && info["model_error"].is_string());
}

#[actix_web::test]
async fn metrics_are_available_in_every_format() {
    let service = TestService::start().await;
    let tester = service.tester();
    for _ in 0..3 {
        tester.chat("say hello", json!({})).await.expect(200);
    }
    tester.chat("fail", json!({})).await.expect(500);
    let text = tester.get("/metrics").await.text();
    for line in [
        "videosdgx_time_to_first_token_seconds_count{service=\"fake\"} 3",
        "videosdgx_num_requests_running{service=\"fake\"} 0",
        "videosdgx_num_requests_waiting{service=\"fake\"} 0",
        "videosdgx_request_success_total{service=\"fake\",finished_reason=\"stop\"} 3",
        "videosdgx_loader_state{service=\"fake\",state=\"loaded\"} 1",
        "videosdgx_websockets{service=\"fake\"} 0",
        "videosdgx_http_requests_total{service=\"fake\",method=\"POST\",route=\"/v1/chat/completions\",status=\"200\"} 3",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    let request = tester.request(Method::GET, "/metrics").header("accept", "application/json");
    let json = tester.send(request).await.expect(200);
    assert_eq!(
        (&json["total_inferences"], &json["successful"], &json["failed"]),
        (&json!(4), &json!(3), &json!(1))
    );
    assert_eq!(json["success_rate"], 0.75);
    assert_eq!(json["last_10"].as_array().unwrap().len(), 4);
    assert_eq!(json["last_10"][0]["reason"], "error");
    assert_eq!(json["engine"]["requests"], 4);

    let telemetry = tester.get("/telemetry?sessions=2&latencies=true").await.expect(200);
    assert_eq!(telemetry["summary"]["sessions"], 4);
    assert_eq!(telemetry["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(telemetry["sessions"][1]["completion_tokens"], 5);
    assert!(!telemetry["sessions"][1]["token_latencies_ms"].as_array().unwrap().is_empty());
    assert_eq!(telemetry["regression"]["regressions"], json!([]));
    assert_eq!(tester.get("/telemetry?sessions=9999").await.status, 400);

    let page = service.anonymous().get("/dashboard").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").to_owned();
    let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    assert!(page.text().contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(!page.text().contains("http://") && !page.text().contains("https://"), "nothing from elsewhere");
}
