//! Jobs in every state: listing, cancelling, forgetting, failing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{TestService, quick};

#[actix_web::test]
async fn cancel_acts_at_once_on_waiting_jobs_and_within_a_step_on_running_ones() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let running = tester.submit_prompt("slow 60").await;
    tester.running(&running).await;
    let waiting = tester.submit_prompt("a").await;
    let cancelled = tester.delete(&format!("/jobs/{waiting}")).await.expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    let stopping = tester.delete(&format!("/jobs/{running}")).await.expect(200);
    assert!(stopping["status"] == "processing" || stopping["status"] == "cancelled", "{stopping}");
    let job = tester.finished(&running).await;
    assert_eq!((&job["status"], &job["error"]), (&json!("cancelled"), &Value::Null));
    // Again is no error.
    assert_eq!(tester.delete(&format!("/jobs/{running}")).await.expect(200)["status"], "cancelled");
    assert_eq!(tester.get(&format!("/jobs/{running}/download")).await.code(409), "not_completed");
    assert!(service.outputs().is_empty());
}

#[actix_web::test]
async fn a_job_that_has_ended_is_forgotten_with_its_file() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let id = tester.submit_prompt("a").await;
    tester.finished(&id).await;
    assert_eq!(tester.delete(&format!("/jobs/{id}")).await.code(409), "already_ended");
    assert_eq!(tester.get(&format!("/jobs/{id}")).await.status, 200, "a late cancel removes nothing");
    let last = tester.delete(&format!("/jobs/{id}?forget=true")).await.expect(200);
    assert_eq!(last["status"], "completed");
    for path in [format!("/jobs/{id}"), format!("/jobs/{id}/download"), format!("/jobs/{id}/events")] {
        assert_eq!(tester.get(&path).await.code(404), "job_not_found");
    }
    assert_eq!(tester.delete(&format!("/jobs/{id}?forget=true")).await.code(404), "job_not_found");
    assert!(service.outputs().is_empty());

    let running = tester.submit_prompt("slow 60").await;
    tester.running(&running).await;
    let last = tester.delete(&format!("/jobs/{running}?forget=true")).await.expect(200);
    assert_eq!(last["status"], "cancelled");
    assert_eq!(tester.get(&format!("/jobs/{running}")).await.status, 404);
    assert_eq!(tester.delete(&format!("/jobs/{running}?forget=yes")).await.json()["field"], "forget");
}

#[actix_web::test]
async fn pages_go_from_the_newest_to_the_oldest() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(tester.submit_prompt(&format!("job {number}")).await);
    }
    let failed = tester.submit_prompt("invalid").await;
    tester.finished(&failed).await;
    ids.push(failed.clone());
    ids.reverse();

    let mut seen = Vec::new();
    let mut path = "/jobs?limit=2".to_owned();
    loop {
        let page = tester.get(&path).await.expect(200);
        seen.extend(
            page["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/jobs?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let page = tester.get("/jobs?status=failed,dead").await.expect(200);
    assert_eq!(page["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(page["jobs"][0]["job_id"], failed);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("status=lost", "status"),
        ("status=", "status"),
        ("cursor=x", "cursor"),
        ("cursor=-1", "cursor"),
        ("page=2", "page"),
        ("limit=1&limit=2", "limit"),
    ] {
        let answer = tester.get(&format!("/jobs?{query}")).await;
        assert_eq!(
            (answer.code(400), answer.json()["field"].clone()),
            ("invalid_field".into(), json!(field)),
            "{query}"
        );
    }
}

#[actix_web::test]
async fn an_engine_that_fails_or_panics_fails_its_job_and_no_other() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let cases = [
        ("fail", "failed", "generation_failed", 3),
        ("panic", "failed", "generation_failed", 3),
        ("invalid", "failed", "invalid_field", 1),
        ("oom", "failed", "insufficient_memory", 1),
    ];
    let mut jobs = Vec::new();
    for (prompt, ..) in cases {
        jobs.push(tester.submit_prompt(prompt).await);
    }
    let good = tester.submit_prompt("good").await;
    for (id, (prompt, status, code, attempts)) in jobs.iter().zip(cases) {
        let job = tester.finished(id).await;
        assert_eq!((&job["status"], &job["error_code"]), (&json!(status), &json!(code)), "{job}");
        assert_eq!(job["attempt"], attempts, "{prompt}");
        assert!(job["error"].as_str().unwrap().contains("the prompt said so"), "{job}");
        assert_eq!(tester.get(&format!("/jobs/{id}/download")).await.code(409), "not_completed");
    }
    assert_eq!(tester.finished(&good).await["status"], "completed");
    assert_eq!(service.outputs(), [format!("{good}.mp4")], "nothing unfinished stays");
    let scratch = service.folder.path().join("state/scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[actix_web::test]
async fn a_full_disk_makes_a_job_wait_and_not_fail() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let short = tester.submit_prompt("full").await;
    let other = tester.submit_prompt("good").await;
    assert_eq!(tester.finished(&other).await["status"], "completed", "others go on");
    let job = tester.job(&short).await;
    assert!(job["status"] == "queued" || job["status"] == "processing", "{job}");
    assert!(job["attempt"].as_u64().unwrap() <= 1, "no attempt is used up: {job}");
    tester.delete(&format!("/jobs/{short}")).await.expect(200);
}

#[actix_web::test]
async fn ids_that_are_none_are_no_jobs() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    for id in ["fake-1", "..%2f..%2fetc%2fpasswd", "FAKE-1", "a%00b", "%ff", &"a".repeat(300)] {
        for path in [format!("/jobs/{id}"), format!("/jobs/{id}/download"), format!("/jobs/{id}/events")] {
            let status = tester.send(tester.request(Method::GET, &path)).await.status;
            assert_eq!(status, 404, "{path}");
        }
    }
}
