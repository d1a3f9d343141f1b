//! A model is loaded at its first use, once for concurrent requests, and unloading releases its memory.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use videosdgx_tests::{Api, Service, Stack};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn sixty_four_first_requests_load_once_and_unload_gives_the_memory_back() -> Result<()> {
    let stack = Stack::of(Service::Wan21).start()?;
    let (api, prefix) = (stack.api()?, stack.prefix());
    let info = api.json(&format!("{prefix}/info")).await?;
    assert_eq!(info["loader"]["state"], "unloaded", "{info}");
    let at_rest = stack.service()?.resident_bytes()?;
    let gateway_at_rest = stack.gateway.resident_bytes()?;
    println!("at rest: service {} MiB, gateway {} MiB", at_rest / MIB, gateway_at_rest / MIB);

    let request =
        json!({"prompt": "a white square moving left on a gray background", "num_frames": 1, "steps": 1});
    let ids = try_join_all((0..64).map(|_| api.submit(&prefix, &request))).await?;
    for id in &ids {
        let job = api.await_job(&prefix, id, Duration::from_secs(300)).await?;
        assert_eq!(job["status"], "completed", "{job}");
    }
    let info = api.json(&format!("{prefix}/info")).await?;
    assert_eq!(info["loader"]["loads"], 1, "{info}");
    assert_eq!(info["checkpoint"], "demo-shapes");

    for round in 1..=2 {
        let freed: Value = api.post(&format!("{prefix}/unload"), &json!({})).await?.json().await?;
        assert_eq!(freed["status"], "unloaded", "{freed}");
        let after = stack.service()?.resident_bytes()?;
        println!("after unload {round}: {} MiB; answer {freed}", after / MIB);
        assert!(after < at_rest + 30 * MIB, "{after} bytes after unload, {at_rest} before the first load");
        // And it loads again.
        let id = api.submit(&prefix, &request).await?;
        assert_eq!(api.await_job(&prefix, &id, Duration::from_secs(60)).await?["status"], "completed");
    }
    Ok(())
}

#[tokio::test]
async fn an_idle_model_is_unloaded() -> Result<()> {
    // 0.02 minutes = 1.2 s.
    let stack = Stack::of(Service::Wan21).env("AUTO_UNLOAD_MINUTES", "0.02").start()?;
    let (api, prefix) = (stack.api()?, stack.prefix());
    let request =
        json!({"prompt": "a white square moving left on a gray background", "num_frames": 1, "steps": 1});
    let id = api.submit(&prefix, &request).await?;
    api.await_job(&prefix, &id, Duration::from_secs(60)).await?;
    let start = Instant::now();
    while state(&api, &prefix).await? != "unloaded" {
        assert!(start.elapsed() < Duration::from_secs(20), "still loaded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn state(api: &Api, prefix: &str) -> Result<Value> {
    Ok(api.json(&format!("{prefix}/info")).await?["loader"]["state"].clone())
}

#[tokio::test]
async fn missing_and_broken_checkpoints_are_named_and_the_service_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let missing = folder.path().join("nothing-here");
    let stack =
        Stack::of(Service::Wan21).env("VIDEOSDGX_CHECKPOINT", missing.display().to_string()).start()?;
    let (api, prefix) = (stack.api()?, stack.prefix());
    let answer = api.post(&format!("{prefix}/generate"), &json!({"prompt": "a red circle"})).await?;
    assert_eq!(answer.status(), 503);
    let problem: Value = answer.json().await?;
    assert_eq!(problem["code"], "checkpoint_missing");
    assert!(problem["detail"].as_str().unwrap_or_default().contains("nothing-here"), "{problem}");

    // A checkpoint that appears while the service runs is used; one whose weights are cut short is named.
    copy_folder(&videosdgx_tests::root().join("checkpoints/demo-shapes"), &missing)?;
    let weights = missing.join("transformer/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&weights)?;
    std::fs::write(&weights, &whole[..whole.len() / 2])?;
    let answer = api.post(&format!("{prefix}/generate"), &json!({"prompt": "a red circle"})).await?;
    let problem: Value = match answer.status().as_u16() {
        503 => answer.json().await?,
        status => panic!("{status}: {}", answer.text().await?),
    };
    assert_eq!(problem["code"], "checkpoint_invalid", "{problem}");
    assert!(problem["detail"].as_str().unwrap_or_default().contains("diffusion_pytorch_model"), "{problem}");

    std::fs::write(&weights, &whole)?;
    let id = api.submit(&prefix, &json!({"prompt": "a red circle", "num_frames": 1, "steps": 1})).await?;
    assert_eq!(api.await_job(&prefix, &id, Duration::from_secs(60)).await?["status"], "completed");
    assert_eq!(api.request(Method::GET, &format!("{prefix}/health")).send().await?.status(), 200);
    Ok(())
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
