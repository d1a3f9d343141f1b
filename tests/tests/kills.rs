//! A crash neither loses nor duplicates an accepted job.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use videosdgx_tests::{Service, Stack};

#[tokio::test]
async fn a_video_whose_service_is_killed_is_completed_after_the_restart() -> Result<()> {
    let mut stack = Stack::of(Service::Wan21).start()?;
    let (api, prefix) = (stack.api()?, stack.prefix());
    let prompt = "a yellow triangle moving down on a navy background";
    let id = api.submit(&prefix, &json!({"prompt": prompt, "seed": 3})).await?;
    // Killed once it is denoising: the first attempt has really begun.
    loop {
        let job = api.json(&format!("{prefix}/jobs/{id}")).await?;
        assert_ne!(job["status"], "completed", "it was over before it could be killed");
        if job["stage"] == "denoising" && job["step"].as_u64() >= Some(1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stack.kill_service()?;
    stack.restart_service()?;
    let job = api.await_job(&prefix, &id, Duration::from_secs(120)).await?;
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["attempt"], 2, "{job}");
    assert_eq!(videos(&stack.outputs())?, 1, "one visible result");
    Ok(())
}

/// Number of videos in a folder of outputs, each with its thumbnail and its sheet of sprites; fails for any other file.
fn videos(outputs: &Path) -> Result<usize> {
    let names: BTreeSet<String> = std::fs::read_dir(outputs)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    let videos: Vec<_> = names.iter().filter_map(|name| name.strip_suffix(".mp4")).collect();
    let expected = videos.iter().flat_map(|video| {
        [".mp4", ".thumbnail.webp", ".spritesheet.jpg"].map(|ending| format!("{video}{ending}"))
    });
    assert_eq!(names, expected.collect(), "nothing is missing or left over");
    Ok(videos.len())
}

/// Jobs of the fake model take 200 ms; the service is killed at random moments while more are submitted.
#[tokio::test]
async fn fifty_kills_lose_nothing() -> Result<()> {
    let seed: u64 =
        std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut stack = Stack::of(Service::Fake).start()?;
    let (api, prefix) = (stack.service_api()?, "");
    let mut accepted = Vec::new();
    for _ in 0..50 {
        for _ in 0..random.random_range(1..4) {
            let request = json!({"prompt": format!("job {}", accepted.len())});
            accepted.push(api.submit(prefix, &request).await?);
        }
        // A storm of submissions is under way when it dies: whatever was answered 202 must be there afterwards.
        let storm = tokio::spawn({
            let api = api.clone();
            async move {
                let mut answered = Vec::new();
                while let Ok(id) = api.submit("", &json!({"prompt": "storm"})).await {
                    answered.push(id);
                    if answered.len() == 3 {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        break;
                    }
                }
                answered
            }
        });
        tokio::time::sleep(Duration::from_millis(random.random_range(300..700))).await;
        stack.kill_service()?;
        accepted.extend(storm.await?);
        stack.restart_service()?;
    }
    // Jobs are short against the time between kills, so none is killed in all its attempts.
    for id in &accepted {
        let job = api.await_job(prefix, id, Duration::from_secs(300)).await?;
        assert_eq!(job["status"], "completed", "{job}");
        let name = job["output_path"].as_str().context("no output")?;
        assert!(stack.outputs().join(name).is_file(), "{job}");
    }
    // A submission whose answer the kill cut off may be there as well: all that are there have one file each.
    let mut jobs = 0;
    let mut page = api.json("/jobs?limit=100").await?;
    loop {
        for job in page["jobs"].as_array().context("no jobs")? {
            let id = job["job_id"].as_str().context("no id")?;
            let job = api.await_job(prefix, id, Duration::from_secs(60)).await?;
            assert_eq!(job["status"], "completed", "{job}");
            jobs += 1;
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        page = api.json(&format!("/jobs?limit=100&cursor={cursor}")).await?;
    }
    assert!(jobs >= accepted.len());
    assert_eq!(videos(&stack.outputs())?, jobs, "one video a job and nothing else");
    println!("{jobs} jobs, {} answered", accepted.len());
    Ok(())
}

#[tokio::test]
async fn a_job_that_kills_its_process_is_given_up_and_the_others_finish() -> Result<()> {
    let mut stack = Stack::of(Service::Fake).start()?;
    let (api, prefix) = (stack.service_api()?, "");
    let killer = api.submit(prefix, &json!({"prompt": "abort", "priority": 9})).await?;
    let mut others = Vec::new();
    for number in 0..10 {
        if let Ok(id) = api.submit(prefix, &json!({"prompt": format!("job {number}")})).await {
            others.push(id);
        }
    }
    for _ in 0..3 {
        stack.service_mut()?.wait(Duration::from_secs(20))?;
        stack.restart_service()?;
    }
    let job = api.await_job(prefix, &killer, Duration::from_secs(30)).await?;
    assert_eq!(job["status"], "dead", "{job}");
    for id in &others {
        let job: Value = api.await_job(prefix, id, Duration::from_secs(60)).await?;
        assert_eq!(job["status"], "completed", "{job}");
    }
    Ok(())
}

#[tokio::test]
async fn sigterm_gives_the_running_job_back_without_an_attempt() -> Result<()> {
    let mut stack = Stack::of(Service::Fake).env("DRAIN_SECONDS", "1").start()?;
    let (api, prefix) = (stack.service_api()?, "");
    let id = api.submit(prefix, &json!({"prompt": "slow 600"})).await?;
    loop {
        if api.json(&format!("/jobs/{id}")).await?["status"] == "processing" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stack.service()?.signal(libc::SIGTERM)?;
    let status = stack.service_mut()?.wait(Duration::from_secs(10))?;
    assert!(status.success(), "{status}");
    stack.restart_service()?;
    loop {
        let job = api.json(&format!("/jobs/{id}")).await?;
        if job["status"] == "processing" {
            assert_eq!(job["attempt"], 1, "the first attempt was given back: {job}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
