//! Following and fetching jobs from a gateway that cuts connections.

#![expect(clippy::unwrap_used, reason = "a test stops where its premises fail")]

mod support;

use std::{fs, time::Duration};

use support::gateway::{JOB, Play, event};
use videosdgx_api::{GenerateRequest, JobStatus, Stage};
use videosdgx_client::{Client, ClientError, JobFilter};

fn client(url: &str) -> Client {
    let client = Client::new(url, Some("token-of-ada".to_owned().into())).unwrap();
    client.polling_every(Duration::from_millis(5))
}

async fn follow(url: &str) -> (Result<JobStatus, ClientError>, Vec<(u8, Option<Stage>)>) {
    let mut seen = Vec::new();
    let job = client(url)
        .follow(&JOB.parse().unwrap(), |progress| seen.push((progress.percent, progress.stage)))
        .await;
    (job.map(|job| job.status), seen)
}

#[tokio::test]
async fn events_are_followed_to_the_end() {
    let stream = [
        event(1, "queued", 0, None),
        ": keep-alive\n\nevent: news\ndata: not for us\n\n".to_owned(),
        event(2, "processing", 48, Some("denoising")),
        event(3, "completed", 100, None),
    ];
    let (play, url) = Play::new(&["completed"], &[&stream.concat()]).serve().await;
    let (status, seen) = follow(&url).await;
    assert_eq!(status.unwrap(), JobStatus::Completed);
    assert_eq!(seen[..3], [(0, None), (48, Some(Stage::Denoising)), (100, None)]);
    assert_eq!(play.header("events", "authorization"), [Some("Bearer token-of-ada".to_owned())]);
    assert_eq!(play.header("job", "authorization").len(), 1, "asked once, for the finished job");
}

#[tokio::test]
async fn a_stream_that_ends_early_is_resumed_after_its_last_event() {
    let first = event(7, "processing", 20, Some("denoising")) + "id: 8\ndata: {\"half";
    let second = event(8, "completed", 100, None);
    let (play, url) = Play::new(&["processing", "completed"], &[&first, &second]).serve().await;
    let (status, _) = follow(&url).await;
    assert_eq!(status.unwrap(), JobStatus::Completed);
    assert_eq!(play.header("events", "last-event-id"), [None, Some("7".to_owned())]);
}

#[tokio::test]
async fn where_no_events_get_through_the_job_is_asked() {
    let (play, url) = Play::new(&["queued", "processing", "processing", "failed"], &[]).serve().await;
    let (status, seen) = follow(&url).await;
    assert_eq!(status.unwrap(), JobStatus::Failed);
    assert_eq!(seen.len(), 4);
    assert_eq!(play.header("job", "authorization").len(), 4);
}

#[tokio::test]
async fn somebody_elses_job_is_not_waited_for() {
    let (_play, url) = Play::new(&["queued"], &[]).serve().await;
    let error = client(&url).follow(&"wan21-zzz".parse().unwrap(), |_| {}).await.unwrap_err();
    assert_eq!(error.status(), Some(404));
}

#[tokio::test]
async fn an_interrupted_download_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("demo.mp4");
    let mut play = Play::new(&["completed"], &[]);
    play.cut_after = Some(30_000);
    let (play, url) = play.serve().await;
    let mut last = 0;
    let size = client(&url)
        .download(&JOB.parse().unwrap(), &target, |done, total| {
            assert!(done >= last && total == Some(100_000));
            last = done;
        })
        .await
        .unwrap();
    assert_eq!((size, last), (100_000, 100_000));
    assert_eq!(fs::read(&target).unwrap(), play.video);
    let ranges = play.header("download", "range");
    assert!(
        ranges.len() >= 4 && ranges[0].is_none() && ranges[1..].iter().all(Option::is_some),
        "{ranges:?}"
    );
    assert!(play.header("download", "if-range")[1..].iter().all(|etag| etag.as_deref() == Some("\"v1\"")));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no partial file is left");
}

#[tokio::test]
async fn a_later_download_goes_on_with_an_earlier_ones_part() {
    let dir = tempfile::tempdir().unwrap();
    let (play, url) = Play::new(&["completed"], &[]).serve().await;
    let part = dir.path().join(format!(".a.mp4.{JOB}.part"));
    for (have, ranges) in [
        (play.video[..40_000].to_vec(), vec![Some("bytes=40000-".to_owned())]),
        // All of it, and more than that: 416, then from the start.
        (play.video.clone(), vec![Some("bytes=100000-".to_owned()), None]),
        (vec![1; 100_001], vec![Some("bytes=100001-".to_owned()), None]),
    ] {
        fs::write(&part, have).unwrap();
        play.seen.lock().unwrap().clear();
        let target = dir.path().join("a.mp4");
        client(&url).download(&JOB.parse().unwrap(), &target, |_, _| {}).await.unwrap();
        assert_eq!(fs::read(&target).unwrap(), play.video);
        assert_eq!(play.header("download", "range"), ranges);
    }
}

#[tokio::test]
async fn a_submission_is_repeated_under_one_key() {
    let play = Play::new(&["completed"], &[]);
    *play.busy.lock().unwrap() = 2;
    let (play, url) = play.serve().await;
    let request = GenerateRequest { prompt: "a red circle".to_owned(), fps: Some(8), ..Default::default() };
    let accepted = client(&url).generate("wan21", &request, None).await.unwrap();
    assert_eq!(accepted.job_id.as_str(), JOB);
    let keys = play.header("generate", "idempotency-key");
    assert!(keys.len() == 3 && keys.iter().all(|key| key.is_some() && *key == keys[0]), "{keys:?}");
    let bodies = play.bodies.lock().unwrap();
    assert_eq!(*bodies, [serde_json::json!({"prompt": "a red circle", "fps": 8})]);
}

#[tokio::test]
async fn pages_and_filters_are_passed_on() {
    let (_play, url) = Play::new(&["completed"], &[]).serve().await;
    let mut filter = JobFilter { status: Some(JobStatus::Running), ..JobFilter::default() };
    let page = client(&url).jobs("wan21", &filter).await.unwrap();
    assert_eq!(page.jobs[0].status, JobStatus::Running);
    filter.cursor = page.next_cursor;
    assert_eq!(client(&url).jobs("wan21", &filter).await.unwrap().next_cursor, None);
}
