//! Figures in both forms, and across a restart.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;

use crate::support::{TestService, quick};

#[actix_web::test]
async fn prometheus_and_json_say_the_same() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    for prompt in ["ab", "abcd", "invalid"] {
        let id = tester.submit_prompt(prompt).await;
        tester.finished(&id).await;
    }
    let blocker = tester.submit_prompt("slow 60").await;
    tester.running(&blocker).await;
    let waiting = tester.submit(json!({"prompt": "x", "priority": 3})).await;
    tester.delete(&format!("/jobs/{waiting}")).await.expect(200);
    tester.submit(json!({"prompt": "x", "priority": 2})).await;

    let text = tester.get("/metrics").await;
    assert!(text.header("content-type").starts_with("application/openmetrics-text"));
    let text = text.text();
    for line in [
        "videosdgx_jobs_total{service=\"fake\",status=\"completed\"} 2",
        "videosdgx_jobs_total{service=\"fake\",status=\"failed\"} 1",
        "videosdgx_jobs_total{service=\"fake\",status=\"cancelled\"} 1",
        "videosdgx_jobs_submitted_total{service=\"fake\"} 6",
        "videosdgx_jobs_running{service=\"fake\"} 1",
        "videosdgx_jobs_queued{service=\"fake\",priority=\"2\"} 1",
        "videosdgx_jobs_queued{service=\"fake\",priority=\"3\"} 0",
        "videosdgx_job_duration_seconds_count{service=\"fake\"} 2",
        "videosdgx_job_stage_duration_seconds_count{service=\"fake\",stage=\"denoising\"} 2",
        "videosdgx_loader_state{service=\"fake\",state=\"loaded\"} 1",
        "videosdgx_loader_state{service=\"fake\",state=\"unloaded\"} 0",
        "videosdgx_model_loads_total{service=\"fake\"} 1",
        "videosdgx_draining{service=\"fake\"} 0",
        "videosdgx_http_requests_total{service=\"fake\",method=\"POST\",route=\"/generate\",status=\"202\"} 6",
        "videosdgx_http_requests_total{service=\"fake\",method=\"DELETE\",route=\"/jobs/{id}\",status=\"200\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("videosdgx_memory_bytes{service=\"fake\",kind=\"resident\"}"));
    assert!(!text.contains(&blocker), "no label names a job");

    let json = tester
        .send(tester.request(Method::GET, "/metrics").header("accept", "application/json"))
        .await
        .expect(200);
    assert_eq!(json["total_inferences"], 3);
    assert_eq!((&json["successful"], &json["failed"]), (&json!(2), &json!(1)));
    assert!((json["success_rate"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    let [least, mean, most] =
        ["min", "avg", "max"].map(|name| json[format!("{name}_duration_seconds")].as_f64().unwrap());
    assert!(least <= mean && mean <= most);
    assert_eq!(json["last_10"].as_array().unwrap().len(), 3);
    assert_eq!(json["last_10"][0]["status"], "failed");
    assert_eq!(json["queue_size"], 1);
    assert_eq!(json["model"]["state"], "loaded");
    assert!(json["memory"]["allocated_gb"].as_f64().unwrap() > 0.0);
    tester.delete(&format!("/jobs/{blocker}")).await;
}

#[actix_web::test]
async fn totals_survive_a_restart() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let id = tester.submit_prompt("abc").await;
    tester.finished(&id).await;
    let folder = Arc::clone(&service.folder);
    assert!(service.running.drain().await);
    let service = TestService::start_in(folder, quick(), |_, _| {}).await;
    let tester = service.tester();
    let json = tester
        .send(tester.request(Method::GET, "/metrics").header("accept", "application/json"))
        .await
        .expect(200);
    assert_eq!((&json["total_inferences"], &json["avg_prompt_characters"]), (&json!(1), &json!(3.0)));
    assert!(
        tester
            .get("/metrics")
            .await
            .text()
            .contains("videosdgx_jobs_total{service=\"fake\",status=\"completed\"} 1")
    );
}
