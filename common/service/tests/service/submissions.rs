//! What is accepted, what is refused, and that nothing refused is enqueued.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use videosdgx_api::{FrameRule, ModelLimits, OutputFormat, Support};
use videosdgx_service::fake::FakeEngine;

use crate::support::{TestService, folder, quick};

#[actix_web::test]
async fn a_prompt_becomes_a_file() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let answer = tester.post("/generate", json!({"prompt": "a cat", "seed": 7})).await;
    let accepted = answer.expect(202);
    let id = accepted["job_id"].as_str().unwrap();
    assert!(id.starts_with("fake-"));
    assert_eq!(answer.header("location"), format!("/jobs/{id}"));
    assert_eq!(accepted["status"], "queued");
    assert_eq!(accepted["queue_position"], 1);
    assert_eq!(accepted["model_loaded"], false);
    assert_eq!(accepted["checkpoint"], "fake");
    assert!(accepted["estimated_time_seconds"].as_f64().unwrap() > 0.0);

    let job = tester.finished(id).await;
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!((&job["prompt"], &job["seed"], &job["progress"]), (&json!("a cat"), &json!(7), &json!(100)));
    assert_eq!(job["resolution"], "64x64");
    assert_eq!(job["attempt"], 1);
    assert_eq!(job["output_path"], format!("{id}.mp4"));
    let file = tester.get(job["download_url"].as_str().unwrap()).await;
    assert_eq!(file.status, 200);
    assert_eq!(json!(file.body.len()), job["output_bytes"]);
    assert_eq!(service.outputs(), crate::support::files_of(&[&format!("{id}.mp4")]));
}

#[actix_web::test]
async fn the_engines_warnings_reach_the_person() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let accepted = tester.post("/generate", json!({"prompt": "warn me"})).await.expect(202);
    assert_eq!(accepted["warnings"], json!(["\"warn\" is not in the vocabulary"]));
    let job = tester.finished(accepted["job_id"].as_str().unwrap()).await;
    assert_eq!(job["warnings"], accepted["warnings"]);
}

#[actix_web::test]
async fn loras_are_listed_and_stay_with_the_job() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let list = service.client("reader", "read").get("/loras").await.expect(200);
    let sketch = &list["loras"][0];
    assert_eq!((&sketch["name"], &sketch["layout"]), (&json!("sketch"), &json!("comfy")));
    assert_eq!((&sketch["ranks"], &sketch["trigger"]), (&json!([4, 16]), &json!("in pencil")));
    assert_eq!(service.client("writer", "generate").get("/loras").await.code(403), "insufficient_scope");
    assert_eq!(service.anonymous().get("/loras").await.code(401), "unauthorized");

    let body = json!({"prompt": "a cat", "loras": [{"name": "sketch"}]});
    let accepted = tester.post("/generate", body).await.expect(202);
    let job = tester.finished(accepted["job_id"].as_str().unwrap()).await;
    assert_eq!(job["loras"], json!([{"name": "sketch", "scale": 1.0}]));
    let none = FakeEngine { limits: ModelLimits { max_loras: 0, ..quick().limits }, ..quick() };
    let service = TestService::start(none).await;
    let refused =
        service.tester().post("/generate", json!({"prompt": "a", "loras": [{"name": "sketch"}]})).await;
    assert_eq!(refused.code(400), "invalid_field");
    assert_eq!((&refused.json()["field"], &refused.json()["limit"]), (&json!("loras"), &json!(0)));
}

#[actix_web::test]
async fn whatever_is_wrong_is_named_and_nothing_is_enqueued() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    for (body, field) in [
        (json!({}), "prompt"),
        (json!({"prompt": " "}), "prompt"),
        (json!({"prompt": "x".repeat(1001)}), "prompt"),
        (json!({"prompt": "a", "colour": 1}), "colour"),
        (json!({"prompt": "a", "fps": 0}), "fps"),
        (json!({"prompt": "a", "fps": "8"}), "fps"),
        (json!({"prompt": "a", "resolution": "65x64"}), "resolution"),
        (json!({"prompt": "a", "num_frames": 6}), "num_frames"),
        (json!({"prompt": "a", "duration": 61}), "duration"),
        (json!({"prompt": "a", "image": "AAAA"}), "image"),
        (json!({"prompt": "a", "loras": [{"name": "unknown"}]}), "loras[0].name"),
        (json!({"prompt": "a", "loras": [{"name": "sketch", "scale": 11}]}), "loras[0].scale"),
        (json!({"prompt": "a", "loras": [{"name": "sketch", "strength": 1}]}), "loras[0].strength"),
        (json!({"prompt": "a", "loras": vec![json!({"name": "sketch"}); 5]}), "loras"),
    ] {
        let answer = tester.post("/generate", body.clone()).await;
        assert_eq!(answer.code(400), "invalid_field", "{body}");
        assert_eq!(answer.json()["field"], field, "{body}");
    }
    let raw = async |body: Vec<u8>, kind: &'static str| {
        tester.send(tester.request(Method::POST, "/generate").header("content-type", kind).body(body)).await
    };
    for body in ["", "{", "[]", "[\"a\"]", "nonsense", "{\"prompt\": \"a\"} trailing"] {
        assert_eq!(raw(body.into(), "application/json").await.code(400), "invalid_body", "{body}");
    }
    assert_eq!(raw(br#"{"prompt":"a"}"#.into(), "text/plain").await.code(415), "unsupported_media_type");
    assert_eq!(raw(vec![b' '; 17 << 20], "application/json").await.code(413), "body_too_large");
    let counts = tester.get("/queue/status").await.expect(200);
    for state in ["queued", "processing", "completed", "failed", "cancelled", "dead"] {
        assert_eq!(counts[state], 0, "{counts}");
    }
}

#[actix_web::test]
async fn an_idempotency_key_makes_one_job() {
    let service = TestService::start(quick()).await;
    let (tester, other) = (service.tester(), service.client("other", "generate read"));
    let send = async |person: &videosdgx_testing::TestClient, path: &str, key: &str, body: Value| {
        person.send(person.request(Method::POST, path).header("Idempotency-Key", key).json(&body)).await
    };
    let body = json!({"prompt": "a cat"});
    let first = send(&tester, "/generate", "k1", body.clone()).await.expect(202)["job_id"].clone();
    tester.finished(first.as_str().unwrap()).await;
    let again = send(&tester, "/generate", "k1", body.clone()).await.expect(202);
    assert_eq!((&again["job_id"], &again["status"]), (&first, &json!("completed")));
    assert_eq!(again["queue_position"], 0);
    assert_eq!(again["estimated_time_seconds"], 0.0);
    let conflict = send(&tester, "/generate", "k1", json!({"prompt": "a dog"})).await;
    assert_eq!(conflict.code(422), "idempotency_conflict");
    assert_ne!(send(&other, "/generate", "k1", body.clone()).await.expect(202)["job_id"], first);

    let batch = json!({"requests": [body, {"prompt": "b"}]});
    let jobs = send(&tester, "/generate/batch", "k1", batch.clone()).await.expect(202)["jobs"].clone();
    let ids = |jobs: &Value| -> Vec<Value> {
        jobs.as_array().unwrap().iter().map(|job| job["job_id"].clone()).collect()
    };
    assert_ne!(ids(&jobs)[0], first, "a batch has keys of its own");
    let again = send(&tester, "/generate/batch", "k1", batch).await.expect(202)["jobs"].clone();
    assert_eq!(ids(&again), ids(&jobs));

    for key in ["", &"k".repeat(256), "k\u{e9}"] {
        let answer = send(&tester, "/generate", key, json!({"prompt": "a"})).await;
        assert_eq!(answer.code(400), "invalid_field", "{key:?}");
        assert_eq!(answer.json()["field"], "Idempotency-Key");
    }
}

#[actix_web::test]
async fn two_hundred_clients_with_one_key_make_one_job() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let answers = futures::future::join_all((0..200).map(|_| {
        let request = tester.request(Method::POST, "/generate").header("Idempotency-Key", "one");
        tester.send(request.json(&json!({"prompt": "a cat"})))
    }))
    .await;
    let first = answers[0].expect(202)["job_id"].clone();
    for answer in &answers {
        assert_eq!(answer.expect(202)["job_id"], first);
    }
    let jobs = tester.get("/jobs").await.expect(200);
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn a_batch_is_accepted_whole_or_not_at_all() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let bad = tester
        .post("/generate/batch", json!({"requests": [{"prompt": "a"}, {"prompt": "b", "fps": 0}]}))
        .await;
    assert_eq!(bad.code(400), "invalid_field");
    assert_eq!(bad.json()["field"], "requests[1].fps");
    for (body, field) in [
        (json!({"requests": []}), "requests"),
        (json!({"requests": vec![json!({"prompt": "a"}); 65]}), "requests"),
        (json!({"requests": [["a"]]}), "requests[0]"),
        (json!({"requests": [{"prompt": "a"}], "more": 1}), "more"),
    ] {
        let answer = tester.post("/generate/batch", body.clone()).await;
        assert_eq!(
            (answer.code(400), answer.json()["field"].clone()),
            ("invalid_field".into(), json!(field)),
            "{body}"
        );
    }
    assert_eq!(tester.get("/jobs").await.expect(200)["jobs"], json!([]));

    let good = tester
        .post("/generate/batch", json!({"requests": [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}]}));
    let jobs = good.await.expect(202)["jobs"].clone();
    for (job, prompt) in jobs.as_array().unwrap().iter().zip(["a", "b", "c"]) {
        let job = tester.finished(job["job_id"].as_str().unwrap()).await;
        assert_eq!((&job["status"], &job["prompt"]), (&json!("completed"), &json!(prompt)));
    }
}

#[actix_web::test]
async fn urgent_jobs_go_first() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let blocker = tester.submit_prompt("slow 60").await;
    tester.running(&blocker).await;
    let low = tester.submit(json!({"prompt": "low", "priority": 1})).await;
    let middle = tester.submit(json!({"prompt": "middle"})).await;
    let high = tester.submit(json!({"prompt": "high", "priority": 9})).await;
    assert_eq!(tester.job(&high).await["queue_position"], 1);
    assert_eq!(tester.job(&low).await["queue_position"], 3);
    let queue = tester.get("/queue/status").await.expect(200);
    assert_eq!(queue["queued_by_priority"], json!([0, 1, 0, 0, 0, 1, 0, 0, 0, 1]));
    assert_eq!((&queue["queued"], &queue["processing"]), (&json!(3), &json!(1)));
    tester.delete(&format!("/jobs/{blocker}")).await.expect(200);
    let mut started = Vec::new();
    // Two of them may begin in the same millisecond: the sort leaves those as they are.
    for (name, id) in [("high", &high), ("middle", &middle), ("low", &low)] {
        let time: jiff::Timestamp =
            tester.finished(id).await["started_at"].as_str().unwrap().parse().unwrap();
        started.push((time, name));
    }
    started.sort_by_key(|(time, _)| *time);
    let order: Vec<&str> = started.iter().map(|(_, name)| *name).collect();
    assert_eq!(order, ["high", "middle", "low"]);
}

#[actix_web::test]
async fn a_full_queue_says_when_to_come_again() {
    let service = TestService::start_in(folder(), quick(), |_, settings| {
        settings.queue.max_queued = 5;
    })
    .await;
    let tester = service.tester();
    let blocker = tester.submit_prompt("slow 60").await;
    tester.running(&blocker).await;
    let first = tester.submit_prompt("a").await;
    let batch = tester.post("/generate/batch", json!({"requests": [{"prompt": "b"}, {"prompt": "c"}]})).await;
    assert_eq!(batch.code(429), "queue_full", "all or none");
    assert_eq!(batch.json()["limit"], 2, "half of the queue is left to others");
    tester.submit_prompt("d").await;
    let refused = tester.post("/generate", json!({"prompt": "e"})).await;
    assert_eq!(refused.code(429), "queue_full");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    service.client("other", "generate read").submit_prompt("mine").await;
    tester.delete(&format!("/jobs/{first}")).await.expect(200);
    tester.submit_prompt("f").await;
    tester.delete(&format!("/jobs/{blocker}")).await;
}

#[actix_web::test]
async fn the_rules_are_those_of_the_engines_description() {
    let mut engine = quick();
    engine.limits.frame_rule = FrameRule { step: 8, offset: 1 };
    engine.limits.size_multiple = 32;
    engine.limits.formats = vec![OutputFormat::H264];
    let service = TestService::start(engine).await;
    let tester = service.tester();
    for (body, field, limit) in [
        (json!({"prompt": "a", "num_frames": 13}), "num_frames", json!("8k+1")),
        (json!({"prompt": "a", "resolution": "48x64"}), "resolution", json!(32)),
        (json!({"prompt": "a", "format": "av1"}), "format", json!(["h264"])),
    ] {
        let answer = tester.post("/generate", body.clone()).await;
        assert_eq!(answer.code(400), "invalid_field", "{body}");
        assert_eq!((&answer.json()["field"], &answer.json()["limit"]), (&json!(field), &limit), "{body}");
    }
    let limits = tester.get("/info").await.expect(200)["model"]["limits"].clone();
    assert_eq!(limits["frame_rule"], json!({"step": 8, "offset": 1}));
    assert_eq!((&limits["image"], &limits["last_image"]), (&json!("none"), &json!("none")));
    // 1.5 seconds at 8 frames per second: 13 frames would be possible for another model.
    let id = tester.submit(json!({"prompt": "a", "duration": 1.5})).await;
    assert_eq!(tester.finished(&id).await["num_frames"], 9);
}

#[actix_web::test]
async fn a_picture_travels_beside_the_request() {
    let mut engine = quick();
    engine.limits.image = Support::Required;
    let service = TestService::start(engine).await;
    let tester = service.tester();
    let without = tester.post("/generate", json!({"prompt": "move"})).await;
    assert_eq!(
        (without.code(400), without.json()["field"].clone()),
        ("invalid_field".into(), json!("image"))
    );
    // One black pixel.
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==";
    let id = tester.submit(json!({"prompt": "move", "image": format!("data:image/png;base64,{png}")})).await;
    let job = tester.finished(&id).await;
    assert_eq!(job["status"], "completed", "{job}");
    assert!(!job.to_string().contains(png), "pictures are not shown in jobs");
    let file = tester.get(&format!("/jobs/{id}/download")).await.text();
    assert!(file.contains(png), "the engine had the picture");
    let broken = tester.post("/generate", json!({"prompt": "move", "image": &png[..40]})).await;
    assert_eq!(broken.code(400), "invalid_field");
}

#[actix_web::test]
async fn checkpoints_that_are_missing_or_broken_are_named_and_the_service_goes_on() {
    let folder = folder();
    let checkpoint = folder.path().join("checkpoint");
    let engine = FakeEngine { checkpoint: Some(checkpoint.clone()), ..quick() };
    let service = TestService::start_in(folder, engine, |_, _| {}).await;
    let tester = service.tester();
    for answer in
        [tester.post("/generate", json!({"prompt": "a"})).await, tester.post("/load", json!({})).await]
    {
        assert_eq!(answer.code(503), "checkpoint_missing");
        assert!(
            answer.json()["detail"].as_str().unwrap().contains("checkpoint is missing"),
            "{}",
            answer.text()
        );
    }
    let info = tester.get("/info").await.expect(200);
    assert_eq!(info["checkpoint"], Value::Null);
    assert!(info["model_error"].as_str().unwrap().contains("missing"));

    std::fs::create_dir(&checkpoint).unwrap();
    std::fs::write(checkpoint.join("broken"), "").unwrap();
    let id = tester.submit_prompt("a").await;
    let job = tester.finished(&id).await;
    assert_eq!((&job["status"], &job["error_code"]), (&json!("failed"), &json!("checkpoint_invalid")));
    assert!(job["error"].as_str().unwrap().contains("broken"));
    assert_eq!(tester.post("/load?wait=true", json!({})).await.code(503), "checkpoint_invalid");
    let ready = tester.get("/ready").await;
    assert_eq!(ready.expect(503)["loader"]["error_code"], "checkpoint_invalid");

    std::fs::remove_file(checkpoint.join("broken")).unwrap();
    let id = tester.submit_prompt("a").await;
    assert_eq!(tester.finished(&id).await["status"], "completed");
}

#[actix_web::test]
async fn estimates_follow_what_jobs_took() {
    let service = TestService::start(FakeEngine { job_time: Duration::from_millis(40), ..quick() }).await;
    let tester = service.tester();
    let id = tester.submit_prompt("a").await;
    tester.finished(&id).await;
    let accepted = tester.post("/generate", json!({"prompt": "b"})).await.expect(202);
    let estimate = accepted["estimated_time_seconds"].as_f64().unwrap();
    assert!(estimate < 30.0, "{estimate}");
}
