//! Nothing is loaded before it is needed, once when many need it, and it can be given back.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::{Value, json};
use videosdgx_service::fake::FakeEngine;
use videosdgx_testing::TestClient;

use crate::support::{TestService, folder, quick};

async fn loader(tester: &TestClient) -> Value {
    tester.get("/info").await.expect(200)["loader"].clone()
}

#[actix_web::test]
async fn sixty_four_first_requests_load_once() {
    let engine = FakeEngine { load_time: Duration::from_millis(100), ..quick() };
    let loads = engine.loads.clone();
    let service = TestService::start(engine).await;
    let tester = service.tester();
    assert_eq!(loader(&tester).await["state"], "unloaded");
    assert_eq!(tester.get("/ready").await.expect(503)["ready"], false);
    let jobs = (0..64).map(|number| {
        let tester = tester.clone();
        async move {
            if number % 8 == 0 {
                tester.post("/load?wait=true", json!({})).await.expect(200);
            }
            let id = tester.submit_prompt("a").await;
            assert_eq!(tester.finished(&id).await["status"], "completed");
        }
    });
    futures::future::join_all(jobs).await;
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(loader(&tester).await["loads"], 1);
    assert_eq!(tester.get("/ready").await.expect(200)["ready"], true);
}

#[actix_web::test]
async fn load_answers_at_once_or_when_it_is_done() {
    let engine = FakeEngine { load_time: Duration::from_millis(600), ..quick() };
    let service = TestService::start(engine).await;
    let tester = service.tester();
    assert_eq!(tester.post("/load", json!({})).await.expect(202)["state"], "loading");
    let ready = tester.get("/ready").await.expect(503);
    assert_eq!(ready["loader"]["state"], "loading");
    assert_eq!(tester.post("/load?wait=true", json!({})).await.expect(200)["state"], "loaded");
    assert_eq!(tester.post("/load", json!({})).await.expect(200)["loads"], 1);
    assert_eq!(tester.post("/load?wait=now", json!({})).await.code(400), "invalid_field");
}

#[actix_web::test]
async fn unload_waits_for_its_user_says_what_it_freed_and_loads_again() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let id = tester.submit_prompt("slow 60").await;
    tester.running(&id).await;
    while loader(&tester).await["in_use"] != 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let busy = tester.post("/unload?wait_seconds=0", json!({})).await;
    assert_eq!(busy.code(409), "model_busy");
    tester.delete(&format!("/jobs/{id}")).await.expect(200);
    let freed = tester.post("/unload", json!({})).await.expect(200);
    assert_eq!((&freed["status"], &freed["model_name"]), (&json!("unloaded"), &json!("fake")));
    assert!(freed["memory_freed_gb"].as_f64().unwrap() >= 0.0);
    for figure in ["allocated_gb", "free_gb", "total_gb"] {
        assert!(freed["memory_after"][figure].as_f64().unwrap() > 0.0, "{freed}");
    }
    assert_eq!(loader(&tester).await["state"], "unloaded");
    let again = tester.submit_prompt("a").await;
    assert_eq!(tester.finished(&again).await["status"], "completed");
    assert_eq!(loader(&tester).await["loads"], 2);
    assert_eq!(tester.post("/unload?wait_seconds=601", json!({})).await.code(400), "invalid_field");
}

#[actix_web::test]
async fn an_idle_model_is_unloaded() {
    let service =
        TestService::start_in(folder(), quick(), |config, _| config.auto_unload_minutes = 0.05 / 60.0).await;
    let tester = service.tester();
    let id = tester.submit_prompt("a").await;
    tester.finished(&id).await;
    while loader(&tester).await["state"] != "unloaded" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(loader(&tester).await["loads"], 1);
}

#[actix_web::test]
async fn what_does_not_fit_is_refused_with_the_numbers_and_jobs_wait() {
    let service = TestService::start(FakeEngine { declared_peak: 1 << 60, ..quick() }).await;
    let tester = service.tester();
    let refused = tester.post("/load?wait=true", json!({})).await;
    assert_eq!(refused.code(503), "insufficient_memory");
    let limit = &refused.json()["limit"];
    assert_eq!(limit["needed_bytes"], 1_u64 << 60);
    assert!(limit["available_bytes"].as_u64().unwrap() > 0);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    let id = tester.submit_prompt("a").await;
    // It is claimed, finds no memory, says so, and is queued again without using up an attempt.
    loop {
        let events = tester.get("/metrics").await;
        assert_eq!(events.status, 200);
        let job = tester.job(&id).await;
        assert!(job["status"] == "queued" || job["status"] == "processing", "{job}");
        if job["started_at"] != Value::Null && job["status"] == "queued" {
            assert_eq!((&job["attempt"], &job["stage"]), (&json!(0), &json!("waiting")), "{job}");
            assert_eq!(job["error_code"], "insufficient_memory");
            assert!(job["error"].as_str().unwrap().contains("bytes"), "{job}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tester.delete(&format!("/jobs/{id}")).await.expect(200);
}
