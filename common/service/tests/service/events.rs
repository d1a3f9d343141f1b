//! Progress streams: complete, resumable, never silent, ended politely.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use videosdgx_testing::parse_events;

use crate::support::{TestService, folder, quick};

#[actix_web::test]
async fn a_stream_tells_the_whole_story_and_ends() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let id = tester.submit(json!({"prompt": "a", "steps": 4})).await;
    let answer = tester.get(&format!("/jobs/{id}/events")).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert!(answer.text().starts_with("retry: 2000\n\n"));
    let events = parse_events(&answer.text());
    let numbers: Vec<u64> = events.iter().map(|event| event.id.unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    let states: Vec<&str> = events
        .iter()
        .filter(|event| event.name == "state")
        .map(|event| event.data["status"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["queued", "processing", "completed"]);
    let steps: Vec<u64> = events
        .iter()
        .filter(|event| event.name == "progress" && event.data["stage"] == "denoising")
        .map(|event| event.data["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    let progress: Vec<u64> = events.iter().map(|event| event.data["progress"].as_u64().unwrap()).collect();
    assert!(progress.is_sorted(), "{progress:?}");
    assert_eq!(progress.last(), Some(&100));
    assert!(events.iter().all(|event| event.data["job_id"] == id.as_str()));
}

#[actix_web::test]
async fn a_stream_resumes_after_the_last_event_seen() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let id = tester.submit_prompt("a").await;
    let all = tester.events(&id).await;
    let path = format!("/jobs/{id}/events");
    for seen in [0, 1, 5, all.len() - 1] {
        let by_header =
            tester.send(tester.request(Method::GET, &path).header("Last-Event-ID", seen.to_string())).await;
        assert_eq!(parse_events(&by_header.text()), all[seen..], "after {seen}");
        let by_query = tester.get(&format!("{path}?last_event_id={seen}")).await;
        assert_eq!(parse_events(&by_query.text()), all[seen..], "after {seen}");
    }
    let everything_seen = tester.get(&format!("{path}?last_event_id={}", all.len())).await;
    assert_eq!((everything_seen.status, everything_seen.body.len()), (204, 0), "nothing will ever come");
    for (header, field) in
        [("x", "Last-Event-ID"), ("-1", "Last-Event-ID"), ("9999999999999999999", "Last-Event-ID")]
    {
        let answer = tester.send(tester.request(Method::GET, &path).header("Last-Event-ID", header)).await;
        assert_eq!(
            (answer.code(400), answer.json()["field"].clone()),
            ("invalid_field".into(), json!(field))
        );
    }
    assert_eq!(tester.get(&format!("{path}?last_event_id=x")).await.code(400), "invalid_field");
}

#[actix_web::test]
async fn a_silent_stream_is_kept_open_by_comments() {
    let service =
        TestService::start_in(folder(), quick(), |config, _| config.heartbeat = Duration::from_millis(20))
            .await;
    let tester = service.tester();
    let blocker = tester.submit_prompt("slow 60").await;
    let waiting = tester.submit_prompt("a").await;
    let mut stream = tester.request(Method::GET, &format!("/jobs/{waiting}/events")).send().await.unwrap();
    let mut text = String::new();
    while text.matches(": still here").count() < 3 {
        text.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
    }
    tester.delete(&format!("/jobs/{blocker}")).await;
}

#[actix_web::test]
async fn open_streams_are_counted_until_their_client_leaves() {
    let service =
        TestService::start_in(folder(), quick(), |config, _| config.heartbeat = Duration::from_millis(20))
            .await;
    let tester = service.tester();
    let id = tester.submit_prompt("slow 60").await;
    let open = async || {
        let text = tester.get("/metrics").await.text();
        text.lines()
            .find_map(|line| line.strip_prefix("videosdgx_event_streams{service=\"fake\"} "))
            .unwrap()
            .to_owned()
    };
    let stream = tester.request(Method::GET, &format!("/jobs/{id}/events")).send().await.unwrap();
    assert_eq!(open().await, "1");
    drop(stream);
    // The heartbeat finds the socket closed.
    while open().await != "0" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tester.delete(&format!("/jobs/{id}")).await;
}
