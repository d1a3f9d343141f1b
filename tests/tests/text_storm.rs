//! Under clients that connect, disconnect, cancel and overload, no request hangs and no resource leaks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use videosdgx_tests::{Api, Service, Stack};

const MIB: u64 = 1 << 20;

/// Behaviour of one client.
#[derive(Debug, Clone, Copy)]
enum Manners {
    /// Reads to the end.
    Patient,
    /// Disconnects after N pieces of text.
    Leaves(usize),
    /// Disconnects before the response begins.
    Hasty(Duration),
    /// Requests the completion in one piece.
    Whole,
}

async fn engine(api: &Api, prefix: &str) -> Result<Value> {
    Ok(api.json(&format!("{prefix}/info")).await?["engine"].clone())
}

/// Waits until no sequence is running or waiting.
async fn quiet(api: &Api, prefix: &str) -> Result<Value> {
    let start = Instant::now();
    loop {
        let engine = engine(api, prefix).await?;
        if ["running", "waiting", "paused"].iter().all(|name| engine[name] == 0) {
            return Ok(engine);
        }
        ensure!(start.elapsed() < Duration::from_secs(10), "something is stuck: {engine}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn visit(api: &Api, number: u64, random: &mut StdRng) -> Result<()> {
    let manners = match random.random_range(0..10) {
        0..4 => Manners::Patient,
        4..7 => Manners::Leaves(random.random_range(1..8)),
        7..9 => Manners::Hasty(Duration::from_millis(random.random_range(0..20))),
        _ => Manners::Whole,
    };
    // Some prompts share their beginning, some do not.
    let question = format!(
        "{} {number}",
        ["forever and ever ", "forever "][random.random_range(0..2)].repeat(random.random_range(1..12))
    );
    let length: u64 = random.random_range(1..24);
    let more = json!({"max_tokens": length, "ignore_eos": true, "priority": random.random_range(0..10), "temperature": 0});
    let model = Service::FakeText.name();
    match manners {
        Manners::Patient => {
            let told = api.chat(model, &question, &more).await?.rest().await?;
            ensure!(told.finish_reason.as_deref() == Some("length"), "{told:?}");
        }
        Manners::Leaves(after) => {
            let mut events = api.chat(model, &question, &more).await?;
            for _ in 0..after {
                if events.next_text().await?.is_none() {
                    break;
                }
            }
        }
        Manners::Hasty(patience) => {
            let _ = tokio::time::timeout(patience, api.ask(model, &question, &more)).await;
        }
        Manners::Whole => {
            let mut more = more;
            more["stream"] = json!(false);
            let answer: Value = api.ask(model, &question, &more).await?.json().await?;
            ensure!(answer["usage"]["completion_tokens"] == length, "{answer}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_visits_leave_nothing_behind() -> Result<()> {
    let seed = rand::rng().random::<u64>();
    println!("seed {seed}");
    let stack = Stack::of(Service::FakeText)
        .gateway_env("VIDEOSDGX_PEER_RATE", "100000")
        .gateway_env("VIDEOSDGX_PRINCIPAL_RATE", "100000")
        .start()?;
    let (api, prefix) = (stack.api()?, stack.prefix());
    let visits = async |from: u64, to: u64| -> Result<()> {
        let mut visits = stream::iter(from..to)
            .map(|number| {
                let api = api.clone();
                let mut random = StdRng::seed_from_u64(seed.wrapping_add(number));
                async move {
                    let limit = Duration::from_secs(30);
                    let visit = tokio::time::timeout(limit, visit(&api, number, &mut random)).await;
                    visit
                        .context("stuck")
                        .and_then(|visit| visit)
                        .with_context(|| format!("visit {number}, seed {seed}"))
                }
            })
            .buffer_unordered(48);
        while let Some(visit) = visits.next().await {
            visit?;
        }
        Ok(())
    };
    // Pools and allocators fill first.
    visits(0, 150).await?;
    quiet(&api, &prefix).await?;
    let before = (stack.service()?.resident_bytes()?, stack.gateway.resident_bytes()?);
    let start = Instant::now();
    visits(150, 1150).await?;
    let engine = quiet(&api, &prefix).await?;
    let after = (stack.service()?.resident_bytes()?, stack.gateway.resident_bytes()?);
    println!(
        "1,000 visits in {:?}; service {} → {} MiB, gateway {} → {} MiB; {engine}",
        start.elapsed(),
        before.0 / MIB,
        after.0 / MIB,
        before.1 / MIB,
        after.1 / MIB
    );
    assert_eq!(engine["kv_cache_usage"], 0.0, "the cache is empty: {engine}");
    assert_eq!(engine["failed_steps"], 0, "{engine}");
    assert!(after.0 < before.0 + 24 * MIB && after.1 < before.1 + 24 * MIB, "memory is flat");
    let metrics = api.get(&format!("{prefix}/metrics")).await?.text().await?;
    for gauge in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"] {
        let line = metrics.lines().find(|line| !line.starts_with('#') && line.contains(gauge));
        let line = line.with_context(|| format!("no {gauge} in the metrics"))?;
        assert!(line.ends_with(" 0") || line.ends_with(" 0.0"), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_full_queue_says_so_at_once_and_who_leaves_makes_room() -> Result<()> {
    let stack = Stack::of(Service::FakeText)
        .env("VIDEOSDGX_MAX_SEQUENCES", "1")
        .env("VIDEOSDGX_STREAM_QUEUE", "2")
        .env("VIDEOSDGX_FAKE_STEP_MS", "20")
        .start()?;
    let (api, prefix, model) = (stack.api()?, stack.prefix(), Service::FakeText.name());
    let long = json!({"max_tokens": 15_000, "ignore_eos": true});
    let mut first = api.chat(model, "forever one", &long).await?;
    first.next_text().await?.context("no text")?;
    let waiting = [glimpse(&api, "forever two", &long), glimpse(&api, "forever three", &long)];
    let start = Instant::now();
    while engine(&api, &prefix).await?["waiting"] != 2 {
        ensure!(
            start.elapsed() < Duration::from_secs(10),
            "they do not wait: {}",
            engine(&api, &prefix).await?
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = Instant::now();
    let refused = api.ask(model, "forever four", &long).await?;
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    assert_eq!(refused.status(), 429);
    let seconds: u64 = refused.headers()["retry-after"].to_str()?.parse()?;
    assert!(seconds >= 1);
    let error: Value = refused.json().await?;
    assert_eq!(
        (&error["error"]["code"], &error["error"]["type"]),
        (&json!("queue_full"), &json!("rate_limit_error"))
    );

    // The one that runs leaves: the next begins, leaves too, and so on.
    drop(first);
    for told in waiting {
        tokio::time::timeout(Duration::from_secs(10), told).await.context("it does not begin")???;
    }
    quiet(&api, &prefix).await?;
    Ok(())
}

/// Sends a request and disconnects at the first piece of text.
fn glimpse(api: &Api, question: &'static str, more: &Value) -> tokio::task::JoinHandle<Result<()>> {
    let (api, more) = (api.clone(), more.clone());
    tokio::spawn(async move {
        let mut events = api.chat(Service::FakeText.name(), question, &more).await?;
        events.next_text().await?.context("no text")?;
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_prompt_holds_nobody_up() -> Result<()> {
    // What a step costs is simulated: a while for itself, and a little for each token in it.
    let stack = Stack::of(Service::FakeText)
        .env("VIDEOSDGX_FAKE_STEP_MS", "20")
        .env("VIDEOSDGX_FAKE_TOKEN_US", "100")
        .start()?;
    let api = stack.api()?;
    // Whatever else the machine does only lengthens gaps: one quiet attempt tells.
    let mut seen = Vec::new();
    for attempt in 0..3 {
        let (median, worst) = gaps_beside_a_long_prompt(&api, attempt).await?;
        if worst <= median * 3 {
            return Ok(());
        }
        seen.push((median, worst));
    }
    bail!("median and worst gaps of three attempts: {seen:?}");
}

/// The median and the worst time between two tokens of four streams, during which a prompt of 4,000 tokens arrives.
async fn gaps_beside_a_long_prompt(api: &Api, attempt: usize) -> Result<(Duration, Duration)> {
    let model = Service::FakeText.name();
    let running = json!({"max_tokens": 120, "ignore_eos": true, "temperature": 0});
    let streams: Vec<_> = (0..4)
        .map(|number| {
            let (api, running) = (api.clone(), running.clone());
            tokio::spawn(async move {
                api.chat(model, &format!("forever {attempt} {number}"), &running).await?.rest().await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let arrived = Instant::now();
    let mut long = api
        .chat(model, &format!("count 2 {attempt} {}", "storm ".repeat(660)), &json!({"max_tokens": 2}))
        .await?;
    long.next_text().await?.context("no text")?;
    let answered = arrived.elapsed();
    let mut gaps = Vec::new();
    for told in futures::future::try_join_all(streams).await? {
        let told = told?;
        ensure!(told.moments.last() > Some(&(arrived + answered)), "the streams ended too early to tell");
        gaps.extend(told.moments.windows(2).map(|pair| pair[1] - pair[0]));
    }
    gaps.sort_unstable();
    let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!(
        "a prompt of 4,000 tokens answered after {answered:?}; gaps of the others: median {median:?}, worst {worst:?}"
    );
    Ok((median, worst))
}

#[tokio::test]
async fn streams_under_way_end_whole_when_service_or_gateway_are_told_to_stop() -> Result<()> {
    let model = Service::FakeText.name();
    for stop_gateway in [false, true] {
        let mut stack = Stack::of(Service::FakeText).env("VIDEOSDGX_FAKE_STEP_MS", "15").start()?;
        let api = Arc::new(stack.api()?);
        let more = json!({"max_tokens": 60, "ignore_eos": true, "temperature": 0});
        let mut streams = Vec::new();
        for number in 0..8 {
            let mut events = api.chat(model, &format!("forever {number}"), &more).await?;
            events.next_text().await?.context("no text")?;
            streams.push(tokio::spawn(events.rest()));
        }
        let stopping = if stop_gateway { &stack.gateway } else { stack.service()? };
        stopping.signal(libc::SIGTERM)?;
        let refused = async {
            loop {
                match api.ask(model, "late", &more).await {
                    Ok(answer) if matches!(answer.status().as_u16(), 502 | 503) => {
                        return answer.headers().contains_key("retry-after");
                    }
                    Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    // It has gone already.
                    Err(_) => return true,
                }
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(5), refused).await?, "nothing new is taken");
        for stream in streams {
            let told = stream.await??;
            assert_eq!(told.finish_reason.as_deref(), Some("length"), "whole: {}", told.text);
        }
        let limit = Duration::from_secs(10);
        let status =
            if stop_gateway { stack.gateway.wait(limit)? } else { stack.service_mut()?.wait(limit)? };
        assert!(status.success(), "{status}");
    }
    Ok(())
}
