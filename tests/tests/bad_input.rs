//! An invalid request is refused with the name of the field, and nothing is enqueued.

use std::time::Duration;

use anyhow::Result;
use reqwest::{Method, header};
use serde_json::{Value, json};
use videosdgx_tests::{Api, Service, Stack};

#[tokio::test]
async fn each_bad_field_is_named_with_its_limit_and_nothing_is_enqueued() -> Result<()> {
    let stack = Stack::of(Service::Wan21).start()?;
    let (api, prefix) = (stack.api()?, stack.prefix());
    let long = "x".repeat(1001);
    let cases = [
        (json!({}), "prompt"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": "  \n"}), "prompt"),
        (json!({"prompt": long}), "prompt"),
        (json!({"prompt": 5}), "prompt"),
        (json!({"prompt": "a", "negative_prompt": long}), "negative_prompt"),
        (json!({"prompt": "a", "resolution": "65x64"}), "resolution"),
        (json!({"prompt": "a", "resolution": "64"}), "resolution"),
        (json!({"prompt": "a", "resolution": "0x64"}), "resolution"),
        (json!({"prompt": "a", "resolution": "99984x99984"}), "resolution"),
        (json!({"prompt": "a", "num_frames": 6}), "num_frames"),
        (json!({"prompt": "a", "num_frames": 0}), "num_frames"),
        (json!({"prompt": "a", "num_frames": 1_000_001}), "num_frames"),
        (json!({"prompt": "a", "num_frames": -1}), "num_frames"),
        (json!({"prompt": "a", "duration": 0}), "duration"),
        (json!({"prompt": "a", "duration": 61}), "duration"),
        (json!({"prompt": "a", "fps": 0}), "fps"),
        (json!({"prompt": "a", "fps": 61}), "fps"),
        (json!({"prompt": "a", "steps": 0}), "steps"),
        (json!({"prompt": "a", "steps": 100_000}), "steps"),
        (json!({"prompt": "a", "guidance_scale": 0.5}), "guidance_scale"),
        (json!({"prompt": "a", "guidance_scale": 21}), "guidance_scale"),
        (json!({"prompt": "a", "priority": 10}), "priority"),
        (json!({"prompt": "a", "seed": -1}), "seed"),
        (json!({"prompt": "a", "format": "gif"}), "format"),
        (json!({"prompt": "a", "scheduler": "ddim"}), "scheduler"),
        (json!({"prompt": "a", "image": "data:image/png;base64,AAAA"}), "image"),
        (json!({"prompt": "a", "colour": "red"}), "colour"),
    ];
    for (body, field) in cases {
        let answer = api.post(&format!("{prefix}/generate"), &body).await?;
        let status = answer.status();
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json", "{body}");
        let problem: Value = answer.json().await?;
        assert_eq!(status, 400, "{body}: {problem}");
        assert_eq!(problem["field"], field, "{body}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    }
    let raw = |body: &'static str, kind: &'static str| {
        api.request(Method::POST, &format!("{prefix}/generate"))
            .header(header::CONTENT_TYPE, kind)
            .body(body)
            .send()
    };
    for body in ["", "{", "[]", "nonsense", "{\"prompt\": \"a\"} trailing"] {
        let answer = raw(body, "application/json").await?;
        assert_eq!(answer.status(), 400, "{body}");
        assert!(answer.json::<Value>().await?["code"].is_string(), "{body}");
    }
    assert_eq!(raw("prompt=a", "text/plain").await?.status(), 415);
    let queue = api.json(&format!("{prefix}/queue/status")).await?;
    assert_eq!((&queue["queued"], &queue["processing"]), (&json!(0), &json!(0)), "{queue}");
    let jobs = api.json(&format!("{prefix}/jobs")).await?;
    assert_eq!(jobs["jobs"], json!([]));
    Ok(())
}

#[tokio::test]
async fn without_a_good_token_only_the_public_routes_answer() -> Result<()> {
    let stack = Stack::of(Service::Fake).start()?;
    for (base, prefix) in
        [(stack.gateway.url().to_owned(), stack.prefix()), (stack.service()?.url().to_owned(), String::new())]
    {
        for token in ["", "nonsense", "a.b.c"] {
            let api = Api::new(&base, token);
            for path in
                ["/jobs", "/info", "/queue/status", "/metrics", "/jobs/fake-1", "/jobs/fake-1/download"]
            {
                let answer = api.get(&format!("{prefix}{path}")).await?;
                assert_eq!(answer.status(), 401, "{base}{prefix}{path}");
            }
            let answer = api.post(&format!("{prefix}/generate"), &json!({"prompt": "a"})).await?;
            assert_eq!(answer.status(), 401);
            assert_eq!(api.get("/health").await?.status(), 200);
        }
    }
    let reader = Api::new(stack.gateway.url(), stack.token("reader", "read")?);
    let answer = reader.post(&format!("{}/generate", stack.prefix()), &json!({"prompt": "a"})).await?;
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.json::<Value>().await?["code"], "insufficient_scope");
    Ok(())
}

#[tokio::test]
async fn jobs_of_others_do_not_exist_and_files_are_refused_before_they_are_there() -> Result<()> {
    let stack = Stack::of(Service::Fake).start()?;
    let (api, prefix) = (stack.api()?, stack.prefix());
    let other = Api::new(stack.gateway.url(), stack.token("other", "generate read admin")?);
    let id = api.submit(&prefix, &json!({"prompt": "slow 30"})).await?;
    for path in [
        format!("{prefix}/jobs/{id}"),
        format!("{prefix}/jobs/{id}/download"),
        format!("{prefix}/jobs/{id}/events"),
    ] {
        assert_eq!(other.get(&path).await?.status(), 404, "{path}");
    }
    assert_eq!(other.request(Method::DELETE, &format!("{prefix}/jobs/{id}")).send().await?.status(), 404);
    assert_eq!(other.get(&format!("/v1/videos/{id}")).await?.status(), 404);
    let early = api.get(&format!("{prefix}/jobs/{id}/download")).await?;
    assert_eq!(early.status(), 409);
    assert_eq!(early.json::<Value>().await?["code"], "not_completed");
    assert!(api.request(Method::DELETE, &format!("{prefix}/jobs/{id}")).send().await?.status().is_success());
    let job = api.await_job(&prefix, &id, Duration::from_secs(10)).await?;
    assert_eq!(job["status"], "cancelled", "{job}");

    let id = api.submit(&prefix, &json!({"prompt": "quick"})).await?;
    api.await_job(&prefix, &id, Duration::from_secs(30)).await?;
    let download = |range: &'static str| {
        api.request(Method::GET, &format!("{prefix}/jobs/{id}/download")).header(header::RANGE, range).send()
    };
    let part = download("bytes=0-3").await?;
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await?.len(), 4);
    assert_eq!(download("bytes=99999999-").await?.status(), 416);
    assert_eq!(api.get("/models/nobody/jobs").await?.status(), 404);
    assert_eq!(api.get(&format!("{prefix}/jobs/..%2F..%2Fetc%2Fpasswd")).await?.status(), 404);
    Ok(())
}
