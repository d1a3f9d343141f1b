//! Pulling from an endpoint that truncates, sends wrong data, redirects and requires a token.

#![expect(clippy::unwrap_used, reason = "a test stops where its premises fail")]

mod support;

use std::{fs, path::Path, sync::Mutex};

use serde_json::json;
use support::hub::FakeHub;
use videosdgx_client::pull::{Hub, PullError, PullEvent, PullReport, pull};

const REPOSITORY: &str = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers";
const NAME: &str = "wan2.1-t2v-1.3b";
const LARGE: &str = "transformer/diffusion_pytorch_model-00001-of-00002.safetensors";

async fn pull_from(endpoint: &str, models: &Path) -> Result<PullReport, PullError> {
    let hub = Hub::new(endpoint, REPOSITORY, "main", None)?;
    pull(&hub, models, NAME, false, &|_| {}).await
}

fn leftovers(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|kind| kind == "partial") {
                names.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    names
}

#[tokio::test]
async fn a_checkpoint_comes_whole_and_only_what_is_needed() {
    let models = tempfile::tempdir().unwrap();
    let (fake, endpoint) = FakeHub::wan().serve().await;
    let report = pull_from(&endpoint, models.path()).await.unwrap();

    let folder = models.path().join(NAME);
    assert_eq!((report.files, report.fetched, report.folder.as_path()), (7, 7, folder.as_path()));
    for (path, content) in &fake.files {
        let needed = path != "README.md" && !path.starts_with("assets");
        assert_eq!(folder.join(path).exists(), needed, "{path}");
        if needed {
            assert_eq!(&fs::read(folder.join(path)).unwrap(), content, "{path}");
        }
    }
    assert_eq!(leftovers(models.path()), [""; 0]);

    // A second pull only looks.
    let requests = fake.seen().len();
    let again = pull_from(&endpoint, models.path()).await.unwrap();
    assert_eq!((again.fetched, fake.seen().len() - requests), (0, 2), "two pages of the listing, no file");
}

#[tokio::test]
async fn interrupted_files_are_resumed() {
    let models = tempfile::tempdir().unwrap();
    let (fake, endpoint) = FakeHub::wan().serve().await;
    *fake.cut_after.lock().unwrap() = Some(120_000);
    let retries = Mutex::new(0);
    let hub = Hub::new(&endpoint, REPOSITORY, "main", None).unwrap();
    pull(&hub, models.path(), NAME, false, &|event| {
        if matches!(event, PullEvent::Retry { .. }) {
            *retries.lock().unwrap() += 1;
        }
    })
    .await
    .unwrap();
    assert_eq!(fs::read(models.path().join(NAME).join(LARGE)).unwrap(), fake.files[LARGE]);
    let ranges: Vec<_> =
        fake.seen().iter().filter(|seen| seen.at_cdn && seen.path == LARGE).map(|seen| seen.range).collect();
    assert!(ranges.len() >= 4 && ranges[0].is_none(), "{ranges:?}");
    assert!(
        ranges[1..].is_sorted() && ranges[1..].iter().all(|range| range.is_some_and(|at| at > 0)),
        "{ranges:?}"
    );
    assert!(*retries.lock().unwrap() >= 3);
}

#[tokio::test]
async fn a_pull_that_was_killed_is_gone_on_with_by_the_next() {
    let models = tempfile::tempdir().unwrap();
    let (fake, endpoint) = FakeHub::wan().serve().await;
    // What a killed process leaves: a staging folder, one finished file, a partial one.
    let staging = models.path().join(format!(".{NAME}.pulling"));
    fs::create_dir_all(staging.join("transformer")).unwrap();
    fs::write(staging.join("model_index.json"), &fake.files["model_index.json"]).unwrap();
    let mut partial = fake.files[LARGE][..150_000].to_vec();
    fs::write(staging.join(format!("{LARGE}.partial")), &partial).unwrap();

    let report = pull_from(&endpoint, models.path()).await.unwrap();
    assert_eq!(report.fetched, 6);
    let asked: Vec<_> = fake.seen().into_iter().filter(|seen| seen.at_cdn && seen.path == LARGE).collect();
    assert_eq!(asked.iter().map(|seen| seen.range).collect::<Vec<_>>(), [Some(150_000)]);
    assert!(!staging.exists());

    // A partial file of something else costs one more attempt, not the pull.
    fs::remove_file(models.path().join(NAME).join(LARGE)).unwrap();
    partial[5] ^= 1;
    fs::write(models.path().join(NAME).join(format!("{LARGE}.partial")), &partial).unwrap();
    assert_eq!(pull_from(&endpoint, models.path()).await.unwrap().fetched, 1);
    assert_eq!(fs::read(models.path().join(NAME).join(LARGE)).unwrap(), fake.files[LARGE]);
}

#[tokio::test]
async fn wrong_bytes_never_get_the_final_name() {
    for path in [LARGE, "transformer/config.json"] {
        let models = tempfile::tempdir().unwrap();
        let (fake, endpoint) = FakeHub::wan().serve().await;
        let mut wrong = fake.files[path].clone();
        wrong[17] ^= 0x40;
        fake.corrupt.lock().unwrap().insert(path.to_owned(), wrong);
        let error = pull_from(&endpoint, models.path()).await.unwrap_err();
        assert!(
            matches!(&error, PullError::Checksum { path: named, .. } if named.as_str() == path),
            "{error}"
        );
        assert!(!models.path().join(NAME).exists(), "the folder may not appear");
        assert!(!models.path().join(format!(".{NAME}.pulling")).join(path).exists());

        // The endpoint is repaired: what was right is kept, what was wrong is gone.
        fake.corrupt.lock().unwrap().clear();
        pull_from(&endpoint, models.path()).await.unwrap();
        assert_eq!(fs::read(models.path().join(NAME).join(path)).unwrap(), fake.files[path]);
    }
}

#[tokio::test]
async fn a_file_of_another_length_is_refused() {
    let models = tempfile::tempdir().unwrap();
    let (fake, endpoint) = FakeHub::wan().serve().await;
    fake.corrupt.lock().unwrap().insert(LARGE.to_owned(), vec![0; 500_000]);
    let error = pull_from(&endpoint, models.path()).await.unwrap_err();
    assert!(matches!(error, PullError::Size { expected: 400_000, got: 500_000, .. }), "{error}");
}

#[tokio::test]
async fn verify_finds_a_file_that_went_bad_on_the_disk() {
    let models = tempfile::tempdir().unwrap();
    let (fake, endpoint) = FakeHub::wan().serve().await;
    pull_from(&endpoint, models.path()).await.unwrap();
    let file = models.path().join(NAME).join(LARGE);
    let mut rotten = fake.files[LARGE].clone();
    rotten[1000] ^= 1;
    fs::write(&file, rotten).unwrap();
    assert_eq!(pull_from(&endpoint, models.path()).await.unwrap().fetched, 0, "sizes are right");
    let hub = Hub::new(&endpoint, REPOSITORY, "main", None).unwrap();
    assert_eq!(pull(&hub, models.path(), NAME, true, &|_| {}).await.unwrap().fetched, 1);
    assert_eq!(fs::read(&file).unwrap(), fake.files[LARGE]);
}

#[tokio::test]
async fn the_token_stays_with_the_endpoint() {
    let models = tempfile::tempdir().unwrap();
    let mut fake = FakeHub::wan();
    fake.token = Some("canary-token");
    let (fake, endpoint) = fake.serve().await;

    let error = pull_from(&endpoint, models.path()).await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("HF_TOKEN"), "{error}");

    let hub = Hub::new(&endpoint, REPOSITORY, "main", Some("canary-token".to_owned().into())).unwrap();
    pull(&hub, models.path(), NAME, false, &|_| {}).await.unwrap();
    let seen = fake.seen();
    assert!(seen.iter().any(|seen| seen.at_cdn), "large files come from the CDN");
    for request in seen.iter().filter(|seen| seen.at_cdn) {
        assert_eq!(request.authorization, None, "the CDN saw the token: {request:?}");
    }
}

#[tokio::test]
async fn errors_do_not_show_signed_addresses() {
    let models = tempfile::tempdir().unwrap();
    let (fake, endpoint) = FakeHub::wan().serve().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    *fake.cdn.lock().unwrap() = format!("http://{closed}");
    let reasons = Mutex::new(Vec::new());
    let retried = tokio::sync::Notify::new();
    let hub = Hub::new(&endpoint, REPOSITORY, "main", None).unwrap();
    let on_event = |event: &PullEvent<'_>| {
        if let PullEvent::Retry { reason, .. } = event {
            reasons.lock().unwrap().push((*reason).to_owned());
            retried.notify_one();
        }
    };
    let pulling = pull(&hub, models.path(), NAME, false, &on_event);
    // The first retry says enough.
    tokio::select! {
        ended = pulling => panic!("it ended: {ended:?}"),
        () = retried.notified() => {}
    }
    let reasons = reasons.into_inner().unwrap();
    assert!(!reasons.is_empty());
    for reason in reasons {
        assert!(!reason.contains("canary") && reason.contains("cannot be reached"), "{reason}");
    }
}

#[tokio::test]
async fn paths_that_lead_out_are_refused_before_anything_is_written() {
    for path in ["transformer/../../evil.json", "/vae/evil.json", "vae/..json/../x.json", "vae/a\\b.json"] {
        let models = tempfile::tempdir().unwrap();
        let mut fake = FakeHub::wan();
        fake.extra.push(json!({"type": "file", "path": path, "size": 1, "oid": "0".repeat(40)}));
        let (fake, endpoint) = fake.serve().await;
        match pull_from(&endpoint, models.path()).await {
            Err(PullError::Listing { .. }) => {
                assert!(fake.seen().iter().all(|seen| seen.path == "tree"), "{path}: a file was downloaded");
            }
            // Not among the files that are needed: never asked for.
            Ok(_) => assert!(fake.seen().iter().all(|seen| !seen.path.contains("evil")), "{path}"),
            Err(error) => panic!("{path}: {error}"),
        }
        assert!(!models.path().parent().unwrap().join("evil.json").exists());
    }
}

#[tokio::test]
async fn invalid_and_too_large_checkpoints_are_refused_in_advance() {
    let models = tempfile::tempdir().unwrap();
    let mut fake = FakeHub::wan();
    fake.files.remove("model_index.json");
    let (_fake, endpoint) = fake.serve().await;
    let error = pull_from(&endpoint, models.path()).await.unwrap_err();
    assert!(error.to_string().contains("model_index.json"), "{error}");

    let mut fake = FakeHub::wan();
    let lfs = json!({"oid": "0".repeat(64), "size": 9_000_000_000_000_000_u64});
    fake.extra
        .push(json!({"type": "file", "path": "vae/huge.safetensors", "size": 1, "oid": "", "lfs": lfs}));
    let (fake, endpoint) = fake.serve().await;
    let error = pull_from(&endpoint, models.path()).await.unwrap_err();
    assert!(matches!(error, PullError::NoSpace { .. }), "{error}");
    assert!(fake.seen().iter().all(|seen| seen.path == "tree"));

    let hub = Hub::new(&endpoint, REPOSITORY, "v9", None).unwrap();
    let error = pull(&hub, models.path(), NAME, false, &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("revision"), "{error}");
}

#[tokio::test]
async fn two_pulls_of_one_checkpoint_do_not_meet() {
    let models = tempfile::tempdir().unwrap();
    let (_fake, endpoint) = FakeHub::wan().serve().await;
    let (first, second) =
        tokio::join!(pull_from(&endpoint, models.path()), pull_from(&endpoint, models.path()));
    assert!(first.is_ok());
    assert!(matches!(second, Err(PullError::Busy(_))), "{second:?}");
}
