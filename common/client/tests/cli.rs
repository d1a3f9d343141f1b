//! The command itself: what it prints, what it writes, how it exits.

#![expect(clippy::unwrap_used, reason = "a test stops where its premises fail")]

mod support;

use std::{
    path::Path,
    process::{Output, Stdio},
};

use secrecy::ExposeSecret;
use support::{
    gateway::{JOB, Play, event},
    hub::FakeHub,
};
use videosdgx_auth::{AuthConfig, KeyFolder, Scope, Verifier};

const TOKEN: &str = "canary-token";

async fn videosdgx(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_videosdgx"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn finished() -> String {
    event(1, "processing", 30, Some("denoising")) + &event(2, "completed", 100, None)
}

#[tokio::test]
async fn generate_waits_saves_and_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("first.png"), b"not really").unwrap();
    let (play, url) = Play::new(&["completed"], &[&finished()]).serve().await;
    let output = videosdgx(
        dir.path(),
        &[("VIDEOSDGX_URL", &url), ("VIDEOSDGX_TOKEN", TOKEN)],
        &[
            "generate",
            "a red circle",
            "-o",
            "red.mp4",
            "--image",
            "first.png",
            "-r",
            "64x64",
            "--num-frames",
            "17",
            "--fps",
            "8",
            "--steps",
            "20",
            "--guidance-scale",
            "3",
            "-s",
            "42",
            "-n",
            "blur",
            "--priority",
            "9",
            "--format",
            "av1",
            "--scheduler",
            "euler",
            "--lora",
            "ink:0.5",
            "--lora",
            "fast",
        ],
    )
    .await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "red.mp4\n");
    assert_eq!(std::fs::read(dir.path().join("red.mp4")).unwrap(), play.video);
    let said = text(&output.stderr);
    assert!(said.contains("does not know the word \"cat\"") && said.contains("denoising"), "{said}");
    assert_eq!(
        play.bodies.lock().unwrap()[0],
        serde_json::json!({
            "prompt": "a red circle", "negative_prompt": "blur", "resolution": "64x64", "num_frames": 17, "fps": 8,
            "steps": 20, "guidance_scale": 3.0, "seed": 42, "priority": 9, "image": "bm90IHJlYWxseQ==", "format": "av1",
            "scheduler": "euler", "loras": [{"name": "ink", "scale": 0.5}, {"name": "fast", "scale": 1.0}],
        })
    );
}

#[tokio::test]
async fn without_waiting_only_the_id_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let (_play, url) = Play::new(&["queued"], &[]).serve().await;
    let environment = [("VIDEOSDGX_URL", url.as_str()), ("VIDEOSDGX_TOKEN", TOKEN)];
    let output = videosdgx(dir.path(), &environment, &["generate", "x", "--no-wait"]).await;
    assert_eq!(text(&output.stdout), format!("{JOB}\n"));
    let output = videosdgx(dir.path(), &environment, &["generate", "x", "--no-wait", "--json"]).await;
    let accepted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(accepted["queue_position"], 1);
}

#[tokio::test]
async fn each_way_to_fail_has_its_status_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (_play, url) = Play::new(&["failed"], &[]).serve().await;
    let (_play, cancelled) = Play::new(&["cancelled"], &[]).serve().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let with_token = [("VIDEOSDGX_TOKEN", TOKEN)];
    for (server, variables, arguments, status, words) in [
        (&url, &with_token[..], &["generate", "x", "--fps", "61"][..], 3, "field fps, limit 60"),
        (&url, &with_token[..], &["generate", "x"][..], 6, "the disk is full (storage_full)"),
        (&url, &with_token[..], &["job", "wan21-zzz"][..], 3, "there is no such job"),
        (&url, &with_token[..], &["generate", "x", "--image", "none.png"][..], 1, "none.png"),
        (&url, &with_token[..], &["generate"][..], 2, "PROMPT"),
        (&url, &with_token[..], &["generate", "x", "-r", "64"][..], 2, "WIDTHxHEIGHT"),
        (&url, &[][..], &["models"][..], 4, "VIDEOSDGX_TOKEN"),
        (&cancelled, &with_token[..], &["generate", "x"][..], 7, "was cancelled"),
        (&closed, &with_token[..], &["models"][..], 5, "connection refused"),
    ] {
        let arguments = [arguments, &["--url", server]].concat();
        let output = videosdgx(dir.path(), variables, &arguments).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[tokio::test]
async fn jobs_are_listed_shown_cancelled_and_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let (play, url) = Play::new(&["completed"], &[]).serve().await;
    let environment = [("VIDEOSDGX_URL", url.as_str()), ("VIDEOSDGX_TOKEN", TOKEN)];
    for (arguments, words) in [
        (&["jobs", "--limit", "2"][..], "completed"),
        (&["jobs", "--status", "processing"][..], "processing"),
        (&["job", JOB][..], "seed 42"),
        (&["cancel", JOB][..], "cancelled"),
        (&["cancel", JOB, "--forget"][..], "and deleted"),
        (&["models"][..], "demo-shapes"),
        (&["loras"][..], "306.0 MB  400 layers, rank 32, 64 · in ink"),
        (&["loras"][..], "cannot be used: it is for another size"),
        (&["loras", "--json"][..], "\"fitting_keys\": 800"),
        (&["download", JOB][..], &format!("{JOB}.mp4")),
    ] {
        let output = videosdgx(dir.path(), &environment, arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(words), "{arguments:?}: {}", text(&output.stdout));
    }
    assert_eq!(std::fs::read(dir.path().join(format!("{JOB}.mp4"))).unwrap(), play.video);
    assert_eq!((play.header("cancel", "host").len(), play.header("forget", "host").len()), (1, 1));
    let listed = videosdgx(dir.path(), &environment, &["jobs", "--limit", "2", "--json"]).await;
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.len(), 2, "two pages of one");
}

#[tokio::test]
async fn tokens_come_from_the_key_folder_and_are_used_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let auth = dir.path().join("auth");
    let folder = auth.to_str().unwrap();
    let none = videosdgx(dir.path(), &[("VIDEOSDGX_AUTH_DIR", folder)], &["token"]).await;
    assert_eq!(none.status.code(), Some(4), "{}", text(&none.stderr));
    assert!(!auth.exists(), "the command makes no key");

    KeyFolder::load_or_create(&auth).unwrap();
    let arguments = ["token", "--subject", "ada", "--scope", "read,admin", "--ttl", "5m"];
    let minted = videosdgx(dir.path(), &[("VIDEOSDGX_AUTH_DIR", folder)], &arguments).await;
    let header = format!("Bearer {}", text(&minted.stdout).trim());
    let verifier = Verifier::from_config(&AuthConfig::with_dir(&auth)).unwrap();
    let principal = verifier.authenticate([header.as_bytes()]).await.unwrap();
    assert!(principal.require(Scope::Admin).is_ok() && principal.require(Scope::Generate).is_err());

    let (play, url) = Play::new(&["completed"], &[]).serve().await;
    let listed =
        videosdgx(dir.path(), &[("VIDEOSDGX_AUTH_DIR", folder), ("VIDEOSDGX_URL", &url)], &["models"]).await;
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    let sent = play.header("models", "authorization")[0].clone().unwrap();
    assert!(verifier.authenticate([sent.as_bytes()]).await.is_ok());
    let _ = secrecy::SecretString::from(sent).expose_secret();
}

#[tokio::test]
async fn pull_brings_a_checkpoint_and_has_the_service_serve_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = FakeHub::wan();
    fake.token = Some(TOKEN);
    let (_fake, endpoint) = fake.serve().await;
    let environment =
        [("HF_ENDPOINT", endpoint.as_str()), ("HF_TOKEN", TOKEN), ("VIDEOSDGX_MODELS_DIR", "m")];
    let pulled = videosdgx(dir.path(), &environment, &["pull", "wan2.1-t2v-1.3b"]).await;
    assert!(pulled.status.success(), "{}", text(&pulled.stderr));
    assert_eq!(text(&pulled.stdout), "m/wan2.1-t2v-1.3b\n");
    assert!(!text(&pulled.stderr).contains("canary"));
    let link = dir.path().join("m/wan21");
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("wan2.1-t2v-1.3b"));

    // A second one does not push the first out unless asked to.
    let other = ["pull", "wan2.1-t2v-14b"];
    assert!(videosdgx(dir.path(), &environment, &other).await.status.success());
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("wan2.1-t2v-1.3b"));
    assert!(videosdgx(dir.path(), &environment, &[other[0], other[1], "--activate"]).await.status.success());
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("wan2.1-t2v-14b"));
    assert!(link.join("model_index.json").exists());

    let unknown = videosdgx(dir.path(), &environment, &["pull", "wan9"]).await;
    assert_eq!(unknown.status.code(), Some(3));
}
