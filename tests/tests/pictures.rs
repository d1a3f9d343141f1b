//! Videos of the demonstration checkpoint show what their prompts say, in full precision and with quantised weights.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use videosdgx_tests::{Service, Stack, run_python};

const COLOURS: [&str; 6] = ["red", "green", "blue", "yellow", "purple", "white"];
const SHAPES: [&str; 3] = ["circle", "square", "triangle"];
const DIRECTIONS: [&str; 4] = ["left", "right", "up", "down"];
const BACKGROUNDS: [&str; 3] = ["black", "gray", "navy"];

/// Every colour with every direction: 24 prompts; shapes and backgrounds alternate.
fn prompts() -> Vec<String> {
    let pairs = COLOURS.iter().flat_map(|colour| DIRECTIONS.iter().map(move |direction| (colour, direction)));
    pairs
        .enumerate()
        .map(|(index, (colour, direction))| {
            let (shape, background) = (SHAPES[index % 3], BACKGROUNDS[index / 3 % 3]);
            format!("a {colour} {shape} moving {direction} on a {background} background")
        })
        .collect()
}

async fn score(stack: &Stack) -> Result<Value> {
    let (api, prefix) = (stack.api()?, stack.prefix());
    let requests: Vec<_> =
        prompts().iter().enumerate().map(|(seed, prompt)| json!({"prompt": prompt, "seed": seed})).collect();
    let answer = api.post(&format!("{prefix}/generate/batch"), &json!({"requests": requests})).await?;
    assert_eq!(answer.status(), 202, "{}", answer.text().await?);
    let accepted: Value = answer.json().await?;
    let folder = tempfile::tempdir()?;
    for (index, prompt) in prompts().iter().enumerate() {
        let id = accepted["jobs"][index]["job_id"].as_str().context("no job_id")?;
        let job = api.await_job(&prefix, id, Duration::from_secs(600)).await?;
        assert_eq!(job["status"], "completed", "{job}");
        assert_eq!(job["checkpoint"], "demo-shapes");
        let video = api.get(&format!("{prefix}/jobs/{id}/download")).await?.bytes().await?;
        std::fs::write(folder.path().join(format!("{index:02}.mp4")), video)?;
        std::fs::write(folder.path().join(format!("{index:02}.txt")), prompt)?;
    }
    let printed = run_python("score_videos.py", [folder.path()])?;
    println!("{printed}");
    Ok(serde_json::from_str(printed.lines().last().context("nothing printed")?)?)
}

fn assert_good(score: &Value) {
    assert_eq!(score["videos"], 24);
    assert!(
        score["colour_and_direction"].as_u64() >= Some(22),
        "colour and direction right in 90 %: {score}"
    );
    assert!(score["shape"].as_u64() >= Some(18), "shape right in 75 %: {score}");
}

#[tokio::test]
async fn videos_show_what_their_prompts_say() -> Result<()> {
    assert_good(&score(&Stack::of(Service::Wan21).start()?).await?);
    Ok(())
}

#[tokio::test]
async fn videos_show_what_their_prompts_say_with_fp8_weights() -> Result<()> {
    assert_good(&score(&Stack::of(Service::Wan21).env("VIDEOSDGX_QUANTIZATION", "fp8").start()?).await?);
    Ok(())
}

#[tokio::test]
async fn the_same_seed_makes_the_same_bytes() -> Result<()> {
    let stack = Stack::of(Service::Wan21).start()?;
    let (api, prefix) = (stack.api()?, stack.prefix());
    let request = json!({"prompt": "a blue circle moving up on a gray background", "seed": 7, "num_frames": 5, "steps": 4});
    let mut files = Vec::new();
    for _ in 0..2 {
        let id = api.submit(&prefix, &request).await?;
        let job = api.await_job(&prefix, &id, Duration::from_secs(120)).await?;
        assert_eq!(job["status"], "completed", "{job}");
        assert_eq!(job["seed"], 7);
        files.push(api.get(&format!("{prefix}/jobs/{id}/download")).await?.bytes().await?);
    }
    assert!(files[0] == files[1], "the same seed made other bytes");
    Ok(())
}

#[tokio::test]
async fn words_outside_the_vocabulary_are_warned_of() -> Result<()> {
    let stack = Stack::of(Service::Wan21).start()?;
    let (api, prefix) = (stack.api()?, stack.prefix());
    let request = json!({"prompt": "a red elephant moving right", "num_frames": 1, "steps": 1});
    let id = api.submit(&prefix, &request).await?;
    let job = api.await_job(&prefix, &id, Duration::from_secs(120)).await?;
    let warnings = job["warnings"].to_string();
    assert!(warnings.contains("ignores them: elephant;"), "{job}");
    Ok(())
}
