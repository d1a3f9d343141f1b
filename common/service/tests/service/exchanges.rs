//! A checkpoint that is exchanged while the service runs.

use std::sync::atomic::Ordering;

use serde_json::json;
use videosdgx_service::fake::FakeEngine;

use crate::support::{TestService, folder, quick};

#[actix_web::test]
async fn a_job_is_made_by_the_checkpoint_that_it_names() {
    let folder = folder();
    let checkpoint = folder.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).unwrap();
    let install = |name: &str| std::fs::write(checkpoint.join("name"), name).unwrap();
    install("large");
    let engine = FakeEngine { checkpoint: Some(checkpoint.clone()), ..quick() };
    let loads = engine.loads.clone();
    let service = TestService::start_in(folder.clone(), engine, |_, _| {}).await;
    let tester = service.tester();
    let made_by = async |id: &str| tester.get(&format!("/jobs/{id}/download")).await.text();

    let before = tester.submit(json!({"prompt": "a", "seed": 1})).await;
    let job = tester.finished(&before).await;
    assert_eq!((&job["checkpoint"], &job["steps"]), (&json!("large"), &json!(10)));
    assert!(made_by(&before).await.contains("1 a large 10 "));

    // Jobs that were accepted for the checkpoint before are resolved anew, or fail with a reason.
    let blocker = tester.submit_prompt("slow 60").await;
    tester.running(&blocker).await;
    let plain = tester.submit(json!({"prompt": "b", "seed": 2})).await;
    let too_large = tester.submit(json!({"prompt": "c", "resolution": "128x128"})).await;
    install("small");
    let late = tester.submit(json!({"prompt": "d", "seed": 4})).await;
    assert_eq!(tester.job(&plain).await["checkpoint"], "large", "that is what it was accepted for");
    tester.delete(&format!("/jobs/{blocker}")).await.expect(200);

    let job = tester.finished(&plain).await;
    assert_eq!(
        (&job["status"], &job["checkpoint"], &job["steps"]),
        (&json!("completed"), &json!("small"), &json!(4))
    );
    assert_eq!(job["seed"], 2);
    assert!(job["warnings"][0].as_str().unwrap().contains("large"), "{job}");
    assert!(made_by(&plain).await.contains("2 b small 4 "));
    let job = tester.finished(&too_large).await;
    assert_eq!(
        (&job["status"], &job["error_code"]),
        (&json!("failed"), &json!("checkpoint_changed")),
        "{job}"
    );
    assert_eq!(job["attempt"], 1);
    let error = job["error"].as_str().unwrap();
    assert!(["large", "small", "64"].iter().all(|word| error.contains(word)), "{error}");
    let job = tester.finished(&late).await;
    assert_eq!((&job["checkpoint"], &job["warnings"]), (&json!("small"), &json!([])));
    assert!(made_by(&late).await.contains("4 d small 4 "));
    assert_eq!(loads.load(Ordering::Relaxed), 2, "one load for each checkpoint");
}

#[actix_web::test]
async fn a_loaded_model_makes_its_jobs_when_its_checkpoint_is_gone() {
    let folder = folder();
    let checkpoint = folder.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).unwrap();
    let engine = FakeEngine { checkpoint: Some(checkpoint.clone()), ..quick() };
    let service = TestService::start_in(folder.clone(), engine, |_, _| {}).await;
    let tester = service.tester();
    let blocker = tester.submit_prompt("slow 60").await;
    tester.running(&blocker).await;
    let waiting = tester.submit_prompt("a").await;
    std::fs::remove_dir_all(&checkpoint).unwrap();
    tester.delete(&format!("/jobs/{blocker}")).await.expect(200);
    assert_eq!(tester.finished(&waiting).await["status"], "completed");
}
