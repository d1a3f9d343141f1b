//! Jobs in every state: listing, cancelling, forgetting, failing.

use std::sync::atomic::Ordering;

use reqwest::Method;
use serde_json::{Value, json};
use videosdgx_testing::{TestClient, parse_events};

use crate::support::{TestService, folder, quick};

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
        ("nan", "failed", "numerical_failure", 1),
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
    let left = crate::support::files_of(&[&format!("{good}.mp4")]);
    assert_eq!(service.outputs(), left, "nothing unfinished stays");
    let scratch = service.folder.path().join("state/scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

/// Waits for the event with which the job says that it waits; its text.
async fn says_that_it_waits(tester: &TestClient, id: &str) -> String {
    let mut response = tester.request(Method::GET, &format!("/jobs/{id}/events")).send().await.unwrap();
    let mut text = String::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&chunk));
        let Some((complete, _)) = text.rsplit_once("\n\n") else { continue };
        if let Some(event) = parse_events(complete).into_iter().find(|event| event.data["stage"] == "waiting")
        {
            assert_eq!(event.data["status"], "queued");
            return event.data["error"].as_str().unwrap().to_owned();
        }
    }
    panic!("it never waited: {text}");
}

#[actix_web::test]
async fn a_job_waits_for_a_disk_that_is_full_or_read_only_and_goes_on() {
    let engine = quick();
    let mended = std::sync::Arc::clone(&engine.disk_is_mended);
    let service = TestService::start(engine).await;
    let tester = service.tester();
    let mut jobs = Vec::new();
    for (prompt, word) in [("full", "full"), ("readonly", "read-only")] {
        let id = tester.submit_prompt(prompt).await;
        let error = says_that_it_waits(&tester, &id).await;
        assert!(error.contains(word) && error.contains("the prompt said so"), "{error}");
        jobs.push(id);
    }
    let other = tester.submit_prompt("good").await;
    assert_eq!(tester.finished(&other).await["status"], "completed", "others go on");
    // Between two tries it shows what it waits for.
    loop {
        let job = tester.job(&jobs[0]).await;
        if job["status"] == "queued" && job["started_at"] != Value::Null {
            let shown = (&job["stage"], &job["error_code"], &job["attempt"]);
            assert_eq!(shown, (&json!("waiting"), &json!("storage_full"), &json!(0)), "{job}");
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    mended.store(true, Ordering::Relaxed);
    for id in jobs {
        let job = tester.finished(&id).await;
        assert_eq!((&job["status"], &job["attempt"]), (&json!("completed"), &json!(1)), "{job}");
        assert_eq!((&job["error"], &job["error_code"]), (&Value::Null, &Value::Null), "{job}");
    }
}

/// R8 on a real file system: `SERVICE_SMALL_DISK` is an empty folder on one of some 16 MiB.
#[actix_web::test]
#[ignore = "needs a small file system"]
#[expect(clippy::disallowed_methods, reason = "the test's own variable")]
async fn a_job_waits_for_room_on_a_small_disk() {
    let Some(disk) = std::env::var_os("SERVICE_SMALL_DISK").map(std::path::PathBuf::from) else { return };
    let outputs = disk.join("outputs");
    let service =
        TestService::start_in(folder(), quick(), |_, settings| settings.outputs_dir = outputs.clone()).await;
    let tester = service.tester();
    let ballast = disk.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 65_536]).is_ok() {}
    let id = tester.submit_prompt("a").await;
    let error = says_that_it_waits(&tester, &id).await;
    assert!(error.contains("is full"), "{error}");
    assert_eq!(std::fs::read_dir(&outputs).unwrap().count(), 0, "nothing unfinished stays");
    std::fs::remove_file(&ballast).unwrap();
    let freed = std::time::Instant::now();
    assert_eq!(tester.finished(&id).await["status"], "completed");
    assert!(freed.elapsed() < std::time::Duration::from_secs(5), "{:?}", freed.elapsed());
}

#[actix_web::test]
async fn a_failed_job_waits_before_it_is_tried_again() {
    let service = TestService::start_in(folder(), quick(), |_, settings| {
        settings.queue.retry_delays = [1500, 1, 1].map(std::time::Duration::from_millis);
    })
    .await;
    let tester = service.tester();
    let submitted = std::time::Instant::now();
    let job = tester.submit_prompt("fail").await;
    assert_eq!(tester.finished(&job).await["attempt"], 3);
    assert!(submitted.elapsed() >= std::time::Duration::from_millis(1500), "{:?}", submitted.elapsed());
}

#[actix_web::test]
async fn pages_begin_after_a_job_or_a_time_in_both_orders() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let mut ids = Vec::new();
    let mut times = Vec::new();
    for number in 0..4 {
        let id = tester.submit_prompt(&format!("job {number}")).await;
        times.push(tester.finished(&id).await["created_at"].as_str().unwrap().to_owned());
        ids.push(id);
    }
    let list = async |query: String| -> Vec<String> {
        let page = tester.get(&format!("/jobs?{query}")).await.expect(200);
        let jobs = page["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["job_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list("order=asc".into()).await, ids);
    assert_eq!(list("order=asc&limit=1".into()).await, ids[..1]);
    assert_eq!(list(format!("order=asc&after={}", ids[1])).await, ids[2..]);
    assert_eq!(list(format!("after={}", ids[1])).await, ids[..1]);
    assert_eq!(list(format!("order=asc&created_after={}", times[1])).await, ids[2..]);
    assert_eq!(list(format!("order=desc&created_before={}", times[1])).await, ids[..1]);
    let first = tester.get("/jobs?order=asc&limit=3").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(list(format!("order=asc&cursor={cursor}")).await, ids[3..]);
    for (query, field) in [
        ("order=up", "order"),
        ("after=fake-nobody", "after"),
        ("after=%00", "after"),
        ("created_before=yesterday", "created_before"),
        ("created_after=1", "created_after"),
    ] {
        let answer = tester.get(&format!("/jobs?{query}")).await;
        assert_eq!(answer.code(400), "invalid_field", "{query}");
        assert_eq!(answer.json()["field"], field, "{query}");
    }
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
