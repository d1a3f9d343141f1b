//! OpenAI's API over the services.

use reqwest::Method;
use serde_json::{Value, json};
use videosdgx_api::JobStatus;
use videosdgx_auth::Scope;

use crate::service::{FILE, Service};
use crate::test_gateway::{TestGateway, model};

async fn create(gateway: &TestGateway, body: Value) -> Value {
    let response = gateway.post("/v1/videos").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200, "{body}");
    response.json().await.unwrap()
}

async fn get(gateway: &TestGateway, path: &str) -> (u16, Value) {
    let response = gateway.get(path).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn models_are_listed_and_retrieved() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    gateway.ready().await;
    let (status, list) = get(&gateway, "/v1/models").await;
    assert_eq!((status, &list["object"]), (200, &json!("list")));
    let one = &list["data"][0];
    assert_eq!(
        (&one["id"], &one["object"], &one["owned_by"]),
        (&json!("fake"), &json!("model"), &json!("videosdgx"))
    );
    assert_eq!((&one["checkpoint"], &one["available"]), (&json!("demo-shapes"), &json!(true)));
    assert!(one["created"].as_i64().unwrap() > 1_700_000_000);
    assert_eq!(get(&gateway, "/v1/models/fake").await.1["id"], "fake");
    let (status, error) = get(&gateway, "/v1/models/none").await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn a_video_is_created_followed_downloaded_and_deleted() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let video =
        create(&gateway, json!({"model": "fake", "prompt": "a red circle", "seconds": "2", "size": "64x48"}))
            .await;
    let id = video["id"].as_str().unwrap().to_owned();
    for (field, value) in [
        ("object", json!("video")),
        ("model", json!("fake")),
        ("status", json!("queued")),
        ("progress", json!(0)),
        ("seconds", json!("2")),
        ("size", json!("64x48")),
        ("error", Value::Null),
        ("prompt", json!("a red circle")),
        ("completed_at", Value::Null),
        ("expires_at", Value::Null),
        ("remixed_from_video_id", Value::Null),
        ("checkpoint", json!("demo-shapes")),
    ] {
        assert_eq!(video[field], value, "{field}");
    }
    assert!(video["created_at"].is_i64());
    let path = format!("/v1/videos/{id}");
    service.set(&id, JobStatus::Running);
    let (_, video) = get(&gateway, &path).await;
    assert_eq!((&video["status"], &video["progress"]), (&json!("in_progress"), &json!(40)));
    let (status, error) = get(&gateway, &format!("{path}/content")).await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("not_completed")));
    service.set(&id, JobStatus::Completed);
    let (_, video) = get(&gateway, &path).await;
    assert_eq!((&video["status"], &video["progress"]), (&json!("completed"), &json!(100)));
    assert!(video["completed_at"].as_i64() >= video["created_at"].as_i64());

    let file = gateway
        .get(&format!("{path}/content?variant=video"))
        .header("accept", "application/binary")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (file.status().as_u16(), &file.headers()["content-type"]),
        (200, &"video/mp4".parse().unwrap())
    );
    assert_eq!(file.bytes().await.unwrap(), FILE);
    let part = gateway.get(&format!("{path}/content")).header("range", "bytes=4-7").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().as_ref()), (206, &FILE[4..8]));
    let beyond = gateway.get(&format!("{path}/content")).header("range", "bytes=999-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{}", FILE.len()));
    assert_eq!(beyond.json::<Value>().await.unwrap()["error"]["code"], "range_not_satisfiable");
    for variant in ["thumbnail", "spritesheet"] {
        let picture = gateway.get(&format!("{path}/content?variant={variant}")).send().await.unwrap();
        assert_eq!(picture.headers()["content-type"], "image/webp", "as the service says");
        assert_eq!(picture.text().await.unwrap(), variant);
    }
    let (status, error) = get(&gateway, &format!("{path}/content?variant=poster")).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("variant")));
    let events = gateway.get(&format!("{path}/events")).header("last-event-id", "7").send().await.unwrap();
    assert_eq!(events.text().await.unwrap(), format!("id: 1\nevent: state\ndata: {id} after 7\n\n"));

    let deleted: Value = gateway.request(Method::DELETE, &path).send().await.unwrap().json().await.unwrap();
    assert_eq!(deleted, json!({"id": id, "object": "video.deleted", "deleted": true}));
    for (method, path) in
        [(Method::GET, path.clone()), (Method::GET, format!("{path}/content")), (Method::DELETE, path)]
    {
        let gone = gateway.request(method, &path).send().await.unwrap();
        assert_eq!(gone.status(), 404);
        assert_eq!(gone.json::<Value>().await.unwrap()["error"]["code"], "job_not_found");
    }
}

#[tokio::test]
async fn the_form_of_the_official_client_makes_the_same_video() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let part = |name: &str, value: &str| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file = "--B\r\nContent-Disposition: form-data; name=\"input_reference\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\nPNG\r\n";
    let form = part("prompt", "p")
        + &part("model", "fake")
        + &part("seconds", "4")
        + &part("size", "64x64")
        + &part("seed", "9")
        + file
        + "--B--\r\n";
    let request =
        gateway.post("/v1/videos").header("content-type", "multipart/form-data; boundary=B").body(form);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let video: Value = response.json().await.unwrap();
    assert_eq!((&video["seconds"], &video["size"]), (&json!("4"), &json!("64x64")));
    assert_eq!(video["warnings"], json!(["image UE5H"]), "the picture arrived as base64");
    assert_eq!(service.state.jobs.lock().unwrap()[0].1.settings.seed, 9);
}

#[tokio::test]
async fn errors_use_openais_field_names() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    for (body, status, param, code) in [
        (json!({"prompt": ""}), 400, "prompt", "invalid_field"),
        (json!({}), 400, "prompt", "invalid_field"),
        (json!({"prompt": "p", "size": "65x64"}), 400, "size", "invalid_field"),
        (json!({"prompt": "p", "size": "large"}), 400, "size", "invalid_field"),
        (json!({"prompt": "p", "seconds": "never"}), 400, "seconds", "invalid_field"),
        (json!({"prompt": "p", "colour": "red"}), 400, "colour", "invalid_field"),
        (json!({"prompt": "p", "model": "sora-2"}), 404, "model", "model_not_found"),
    ] {
        let response = gateway.post("/v1/videos").json(&body).send().await.unwrap();
        assert_eq!(response.status(), status, "{body}");
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["param"], param, "{body}");
        assert_eq!(error["error"]["code"], code, "{body}");
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert!(!error["error"]["message"].as_str().unwrap().is_empty());
    }
    let text =
        gateway.post("/v1/videos").header("content-type", "text/plain").body("p").send().await.unwrap();
    assert_eq!(text.status(), 415);
    assert!(service.state.jobs.lock().unwrap().is_empty(), "nothing was enqueued");
}

#[tokio::test]
async fn the_model_must_be_named_when_there_are_several() {
    let (one, two) = (Service::start("one").await, Service::start("two").await);
    let gateway = TestGateway::with(vec![model("one", &[&one]), model("two", &[&two])], |_| {}).await;
    let response = gateway.post("/v1/videos").json(&json!({"prompt": "p"})).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["param"], "model");
    for name in ["one", "two"] {
        let video = create(&gateway, json!({"prompt": "p", "model": name})).await;
        assert_eq!(video["id"], format!("{name}-0001"));
        assert_eq!(get(&gateway, &format!("/v1/videos/{name}-0001")).await.1["model"], name);
    }
}

#[tokio::test]
async fn lists_cover_all_models_by_pages_in_both_orders() {
    let (one, two) = (Service::start("one").await, Service::start("two").await);
    let gateway = TestGateway::with(vec![model("one", &[&one]), model("two", &[&two])], |_| {}).await;
    let (_, empty) = get(&gateway, "/v1/videos").await;
    assert_eq!(
        empty,
        json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false})
    );
    for number in 0..7 {
        create(&gateway, json!({"prompt": "p", "model": if number % 3 == 0 { "one" } else { "two" }})).await;
    }
    let mut orders = Vec::new();
    for order in ["desc", "asc"] {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let (status, page) = get(&gateway, &format!("/v1/videos?limit=3&order={order}{after}")).await;
            assert_eq!(status, 200);
            let ids: Vec<String> = page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|video| video["id"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(page["first_id"], *ids.first().unwrap());
            assert_eq!(page["last_id"], *ids.last().unwrap());
            after = format!("&after={}", ids.last().unwrap());
            all.extend(ids);
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(all.len(), 7, "{all:?}");
        orders.push(all);
    }
    orders[1].reverse();
    assert_eq!(orders[0], orders[1]);
    // Jobs of both services have the same times, so that the order of the services decides: "two" comes after "one".
    assert_eq!(orders[0][..3], ["two-0004", "one-0003", "two-0003"]);
    for (query, param) in
        [("limit=0", "limit"), ("limit=101", "limit"), ("after=one-9999", "after"), ("after=%00", "after")]
    {
        let (status, error) = get(&gateway, &format!("/v1/videos?{query}")).await;
        assert_eq!((status, &error["error"]["param"]), (400, &json!(param)), "{query}");
    }
    assert_eq!(get(&gateway, "/v1/videos?order=up").await.0, 400);
}

/// One job more than the page has is read from each service, however many it has, in both orders and wherever the page begins.
#[tokio::test]
async fn a_page_reads_no_more_jobs_than_it_needs() {
    let (one, two) = (Service::start("one").await, Service::start("two").await);
    let gateway = TestGateway::with(vec![model("one", &[&one]), model("two", &[&two])], |_| {}).await;
    for number in 0..60 {
        create(&gateway, json!({"prompt": "p", "model": if number % 2 == 0 { "one" } else { "two" }})).await;
    }
    for (query, first) in [
        ("order=asc", "two-0001"),
        ("order=desc", "one-0030"),
        ("order=asc&after=one-0029", "two-0030"),
        ("order=desc&after=one-0002", "two-0002"),
    ] {
        let counted = || one.requests() + two.requests();
        let listed = || {
            let of = |service: &Service| service.state.jobs_listed.load(std::sync::atomic::Ordering::SeqCst);
            of(&one) + of(&two)
        };
        let (requests, jobs) = (counted(), listed());
        let (status, page) = get(&gateway, &format!("/v1/videos?limit=1&{query}")).await;
        assert_eq!((status, &page["data"][0]["id"]), (200, &json!(first)), "{query}");
        assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (1, &json!(true)), "{query}");
        assert!(listed() - jobs <= 4, "{query}: {} jobs were read", listed() - jobs);
        assert!(counted() - requests <= 3, "{query}: {} requests", counted() - requests);
    }
}

#[tokio::test]
async fn cancelling_affects_only_unfinished_videos() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    for _ in 0..3 {
        create(&gateway, json!({"prompt": "p"})).await;
    }
    let cancel = async |id: &str| -> Value {
        let path = format!("/v1/videos/{id}/cancel");
        gateway.post(&path).send().await.unwrap().json().await.unwrap()
    };
    let video = cancel("fake-0001").await;
    assert_eq!((&video["status"], &video["error"]["code"]), (&json!("failed"), &json!("cancelled")));
    service.set("fake-0002", JobStatus::Running);
    assert_eq!(cancel("fake-0002").await["status"], "in_progress", "it stops at its next step");
    service.set("fake-0003", JobStatus::Completed);
    assert_eq!(cancel("fake-0003").await["status"], "completed");
    assert_eq!(
        get(&gateway, "/v1/videos/fake-0003").await.0,
        200,
        "a finished video is not removed by a cancel"
    );
    // Deleting a queued video removes it.
    create(&gateway, json!({"prompt": "p"})).await;
    let deleted = gateway.request(Method::DELETE, "/v1/videos/fake-0004").send().await.unwrap();
    assert_eq!(deleted.status(), 200);
    assert_eq!(get(&gateway, "/v1/videos/fake-0004").await.0, 404);
    // A video that does not stop at once stays, and the answer is 409.
    let busy = gateway.request(Method::DELETE, "/v1/videos/fake-0002").send().await.unwrap();
    assert_eq!(busy.status(), 409);
}

#[tokio::test]
async fn an_idempotency_key_makes_one_video_and_a_token_may_create_without_reading() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    let request =
        || gateway.post("/v1/videos").header("idempotency-key", "k1").json(&json!({"prompt": "p"})).send();
    let first: Value = request().await.unwrap().json().await.unwrap();
    let second: Value = request().await.unwrap().json().await.unwrap();
    assert_eq!(first["id"], second["id"]);
    assert_eq!(service.state.jobs.lock().unwrap().len(), 1);
    let writer =
        gateway.as_of("ada", Scope::Generate, Method::POST, "/v1/videos").json(&json!({"prompt": "p"}));
    assert_eq!(writer.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn invalid_ids_are_not_found() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    for id in ["..", "%2e%2e%2fhealth", "A", "a%20b", "%00", &"a".repeat(100), "fake-0001%3Fx=1"] {
        for suffix in ["", "/content", "/events"] {
            let response = gateway.get(&format!("/v1/videos/{id}{suffix}")).send().await.unwrap();
            assert_eq!(response.status(), 404, "{id}{suffix}");
        }
    }
    assert_eq!(service.requests(), 0);
}
