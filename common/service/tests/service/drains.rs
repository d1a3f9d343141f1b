//! Shutting down and starting again: nothing accepted is lost, nobody is cut off.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::Method;
use serde_json::json;

use videosdgx_jobs::{
    Queue as _, QueueConfig,
    sqlite::{SqliteOptions, SqliteQueue},
};
use videosdgx_service::{ServiceConfig, VideoSettings};
use videosdgx_testing::parse_events;

use crate::support::{TestService, configuration, folder, quick};

#[actix_web::test]
async fn a_drain_refuses_the_new_and_lets_the_running_job_end() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let running = tester.submit_prompt("slow 1").await;
    tester.running(&running).await;
    let waiting = tester.submit_prompt("later").await;
    let mut stream = tester.request(Method::GET, &format!("/jobs/{running}/events")).send().await.unwrap();
    let folder = Arc::clone(&service.folder);
    let drain = actix_web::rt::spawn(service.running.drain());
    // The stream ends with the hint, which also says that the drain has begun.
    let mut text = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    let last = parse_events(&text).pop().unwrap();
    assert_eq!((last.name.as_str(), last.id), ("reconnect", None));
    assert_eq!(last.data["reason"], "draining");

    let ready = tester.get("/ready").await.expect(503);
    assert_eq!((&ready["ready"], &ready["accepting_jobs"]), (&json!(false), &json!(false)));
    assert_eq!(tester.get("/health").await.status, 200);
    for (path, body) in [
        ("/generate", json!({"prompt": "a"})),
        ("/generate/batch", json!({"requests": [{"prompt": "a"}]})),
        ("/load", json!({})),
    ] {
        let refused = tester.post(path, body).await;
        assert_eq!(refused.code(503), "draining", "{path}");
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    let job = tester.job(&running).await;
    assert_eq!(job["status"], "processing");
    assert!(drain.await.unwrap(), "the job ended within the grace time");
    assert!(tester.request(Method::GET, "/health").send().await.is_err(), "it has stopped");

    let service = TestService::start_in(folder, quick(), |_, _| {}).await;
    let tester = service.tester();
    assert_eq!(tester.job(&running).await["status"], "completed");
    assert_eq!(tester.finished(&waiting).await["status"], "completed");
}

#[actix_web::test]
async fn a_job_that_outlasts_the_grace_time_is_given_back_without_an_attempt() {
    let short = |config: &mut ServiceConfig, _: &mut VideoSettings| config.drain = Duration::from_millis(100);
    let service = TestService::start_in(folder(), quick(), short).await;
    let tester = service.tester();
    let id = tester.submit_prompt("slow 600").await;
    tester.running(&id).await;
    let folder = Arc::clone(&service.folder);
    assert!(service.running.drain().await);
    let service = TestService::start_in(folder, quick(), |_, _| {}).await;
    let tester = service.tester();
    tester.running(&id).await;
    let job = tester.job(&id).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("processing"), &json!(1)), "{job}");
    tester.delete(&format!("/jobs/{id}")).await.expect(200);
    assert_eq!(tester.finished(&id).await["status"], "cancelled");
    assert!(service.outputs().is_empty(), "{:?}", service.outputs());
}

#[actix_web::test]
async fn a_download_under_way_is_not_cut() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let id = tester.submit_prompt("a").await;
    tester.finished(&id).await;
    let path = service.folder.path().join("outputs").join(format!("{id}.mp4"));
    let length: u64 = 64 << 20;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
    let mut download = tester.request(Method::GET, &format!("/jobs/{id}/download")).send().await.unwrap();
    let mut received = download.chunk().await.unwrap().unwrap().len() as u64;
    let drain = actix_web::rt::spawn(service.running.drain());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!drain.is_finished(), "it waits for the download");
    while let Some(chunk) = download.chunk().await.unwrap() {
        received += chunk.len() as u64;
    }
    assert_eq!(received, length);
    assert!(drain.await.unwrap());
}

#[actix_web::test]
async fn what_a_dead_process_left_is_cleaned_and_what_it_finished_stays() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let id = tester.submit_prompt("a").await;
    tester.finished(&id).await;
    let folder = Arc::clone(&service.folder);
    assert!(service.running.drain().await);
    let outputs = folder.path().join("outputs");
    for name in [
        ".fake-dead.1.part.mp4".to_owned(),
        format!(".{id}.2.part.mp4"),
        format!("{id}.2.mp4"),
        format!("{id}.2.thumbnail.webp"),
        format!(".{id}.2.part.spritesheet.jpg"),
    ] {
        std::fs::write(outputs.join(name), "left over").unwrap();
    }
    // Nobody has written to it for two days, so no other replica is making it.
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    let abandoned = std::fs::File::options().write(true).open(outputs.join(".fake-dead.1.part.mp4")).unwrap();
    abandoned.set_modified(two_days_ago).unwrap();
    for name in ["fake-unknown.mp4", "other-1.mp4", ".other-1.1.part.mp4", "holiday.mp4", "notes.txt"] {
        std::fs::write(outputs.join(name), "not ours to remove").unwrap();
    }
    let scratch = folder.path().join("state/scratch/fake-dead");
    std::fs::create_dir_all(&scratch).unwrap();
    let service = TestService::start_in(folder, quick(), |_, _| {}).await;
    let tester = service.tester();
    // The worker cleans before it takes its first job.
    let next = tester.submit_prompt("b").await;
    tester.finished(&next).await;
    let mut expected: Vec<String> =
        [".other-1.1.part.mp4", "fake-unknown.mp4", "holiday.mp4", "notes.txt", "other-1.mp4"]
            .map(str::to_owned)
            .into();
    expected.extend(crate::support::files_of(&[&format!("{id}.mp4"), &format!("{next}.mp4")]));
    expected.sort();
    assert_eq!(service.outputs(), expected);
    assert!(!scratch.exists());
    assert_eq!(tester.get(&format!("/jobs/{id}/download")).await.status, 200);
}

#[actix_web::test]
async fn one_state_folder_has_one_owner() {
    let service = TestService::start(quick()).await;
    let (config, settings) = configuration(&service.folder);
    let error = videosdgx_service::Running::start(quick(), config, settings).await.unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

/// Two replicas have a queue each and one outputs folder: neither removes what the other is making or has made.
#[actix_web::test]
async fn replicas_that_share_an_outputs_folder_leave_each_others_files_alone() {
    let (first_folder, second_folder) = (folder(), folder());
    let first = TestService::start_in(Arc::clone(&first_folder), quick(), |_, _| {}).await;
    let outputs = first_folder.path().join("outputs");
    let tester = first.tester();
    let made = tester.submit_prompt("a").await;
    tester.finished(&made).await;
    let making = tester.submit_prompt("slow 600").await;
    tester.running(&making).await;
    let unfinished = outputs.join(format!(".{making}.1.part.mp4"));
    std::fs::write(&unfinished, "in progress").unwrap();

    let shared = outputs.clone();
    let second =
        TestService::start_in(second_folder, quick(), move |_, settings| settings.outputs_dir = shared).await;
    let other = second.tester();
    // The worker sweeps before it takes its first job.
    let theirs = other.submit_prompt("b").await;
    other.finished(&theirs).await;
    assert!(unfinished.exists(), "the first replica is still making it");
    assert_eq!(tester.get(&format!("/jobs/{made}/download")).await.status, 200);
    assert_eq!(other.get(&format!("/jobs/{theirs}/download")).await.status, 200);

    tester.delete(&format!("/jobs/{making}")).await.expect(200);
    tester.finished(&making).await;
    assert!(!unfinished.exists(), "its own service removes it");
    assert!(outputs.join(format!("{theirs}.mp4")).exists());
}

/// The fake engine stands for a GPU after an illegal memory access.
#[actix_web::test]
async fn a_device_that_fails_gives_its_job_back_and_takes_no_other() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let short = tester.submit_prompt("oom").await;
    assert_eq!(tester.finished(&short).await["error_code"], "insufficient_memory");
    assert_eq!(videosdgx_model::failed_device(), None, "memory that is short is no failure of the device");
    let broken = tester.submit_prompt("device").await;
    let waiting = tester.submit_prompt("later").await;
    assert_eq!(videosdgx_model::device_failure().await, "CUDA error: the prompt said so");
    let job = tester.job(&broken).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("queued"), &json!(1)), "{job}");
    let ready = tester.get("/ready").await.expect(503);
    assert!(ready["reason"].as_str().unwrap().contains("CUDA error: the prompt said so"), "{ready}");
    assert_eq!(ready["accepting_jobs"], false);
    // What `main` does then.
    let folder = Arc::clone(&service.folder);
    assert!(service.running.drain().await, "the worker has ended");
    let queue =
        SqliteQueue::open(SqliteOptions::new(folder.path().join("state")), QueueConfig::default()).unwrap();
    for (id, attempts) in [(&broken, 1), (&waiting, 0)] {
        let record = queue.find(&id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(record.status, videosdgx_api::JobStatus::Queued, "{record:?}");
        assert_eq!(record.attempts_used, attempts, "{record:?}");
    }
}
