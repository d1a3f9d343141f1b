//! Tests of streaming over many prompts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::executor::block_on;
use futures::{StreamExt as _, stream};

use super::*;
use crate::testing::{Rig, Script, config};
use crate::{FinishReason, StreamEvent, SubmitError};

fn engine(rig: &Rig, max_concurrent_requests: usize) -> StreamingComputationEngine {
    create_streaming_engine(
        rig.engine.clone(),
        StreamingConfig { max_concurrent_requests, ..StreamingConfig::default() },
    )
}

fn options(max_new_tokens: usize) -> GenerateOptions {
    let mut options = GenerateOptions { max_new_tokens, ..GenerateOptions::default() };
    options.sampling.temperature = 0.0;
    options
}

/// The output of each prompt, by index.
fn texts(results: GenerateStream) -> BTreeMap<usize, String> {
    let mut texts = BTreeMap::new();
    for result in block_on(results.collect::<Vec<_>>()) {
        let text: &mut String = texts.entry(result.index).or_default();
        match result.output.unwrap() {
            StreamEvent::Token(token) => text.push_str(&token.text),
            StreamEvent::Completed(end) => text.push_str(&end.text),
            StreamEvent::Error(error) => panic!("{error}"),
        }
    }
    texts
}

#[test]
fn defaults_are_the_specifications() {
    let config = StreamingConfig::default();
    assert_eq!((config.max_concurrent_requests, config.buffer_size), (4, 100));
    assert_eq!(GenerateOptions::default().max_new_tokens, 512);
}

#[test]
fn one_many_and_lazy_prompts_give_the_same_texts() {
    let rig = Rig::plain();
    let engine = engine(&rig, 4);
    let prompts = ["ABC", "HELLO", "PQRPQR"];
    let many = texts(engine.generate_stream(prompts.to_vec(), options(12)));
    assert_eq!(many.len(), 3);
    for (index, prompt) in prompts.into_iter().enumerate() {
        let one = texts(engine.generate_stream(prompt, options(12)));
        assert_eq!(one[&0], many[&index]);
        assert_eq!(one[&0].len(), 12);
    }
    assert_eq!(texts(engine.generate_stream(Prompts::lazy_iter(prompts), options(12))), many);
    let statistics = engine.statistics();
    assert_eq!((statistics.submitted, statistics.completed, statistics.active), (9, 9, 0));
    assert_eq!(statistics.tokens, 9 * 12);
}

#[test]
fn a_lazy_sequence_is_pulled_only_as_slots_get_free() {
    let rig = Rig::plain();
    let engine = engine(&rig, 2);
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pulled);
    let prompts = stream::iter(0..10).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        "AB"
    });
    let mut results = engine.generate_stream(Prompts::lazy(prompts), options(5));
    let mut ended = 0;
    while let Some(result) = block_on(results.next()) {
        ended += usize::from(result.is_last());
        assert!(pulled.load(Ordering::Relaxed) <= ended + 2, "pulled ahead of free slots");
    }
    assert_eq!((ended, pulled.load(Ordering::Relaxed)), (10, 10));
}

#[test]
fn a_callback_gets_each_result_and_the_future_the_complete_text() {
    let rig = Rig::plain();
    let engine = engine(&rig, 4);
    let seen = Arc::new(Mutex::new(String::new()));
    let text = Arc::clone(&seen);
    let outcome = block_on(engine.submit_stream_request("mine", "HELLO", options(8), move |result| {
        if let Ok(StreamEvent::Token(token)) = &result.output {
            text.lock().unwrap().push_str(&token.text);
        }
    }));
    let outcome = outcome.unwrap();
    assert_eq!((outcome.request_id.as_str(), outcome.reason), ("mine", FinishReason::Length));
    assert_eq!((outcome.text.len(), &outcome.text), (8, &*seen.lock().unwrap()));
}

#[test]
fn a_generation_request_is_processed_like_a_prompt() {
    let rig = Rig::plain();
    let engine = engine(&rig, 1);
    let expected = texts(engine.generate_stream("HELLO", options(8)));
    let request = StreamRequest { request_id: "mine".to_owned(), input: "HELLO".into(), options: options(8) };
    let request = request.into_generation(|text| rig.engine.language().encode(text)).unwrap();
    assert_eq!(texts(engine.stream_request(request)), expected);
    assert_eq!((engine.statistics().completed, engine.statistics().active), (2, 0));
}

#[test]
fn a_refused_prompt_fails_alone() {
    let rig = Rig::plain();
    let engine = engine(&rig, 4);
    let results = engine.generate_stream(vec!["AB", "no spaces", "CD"], options(3));
    let failed: Vec<_> = block_on(results.collect::<Vec<_>>())
        .into_iter()
        .filter_map(|result| result.output.err().map(|error| (result.index, error)))
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(matches!(failed[0], (1, SubmitError::Invalid { field: "prompt", .. })));
    assert_eq!((engine.statistics().failed, engine.statistics().completed), (1, 2));
}

#[test]
fn dropping_the_results_cancels_what_runs() {
    let rig = Rig::plain();
    let engine = engine(&rig, 2);
    let mut results = engine.generate_stream(vec!["AB", "CD", "EF"], options(4000));
    block_on(results.next());
    drop(results);
    rig.wait_until_idle();
    assert_eq!((engine.statistics().active, engine.statistics().cancelled), (0, 2));
    assert_eq!(texts(engine.generate_stream("GH", options(3)))[&0].len(), 3);
}

#[test]
fn a_full_engine_queue_is_waited_for() {
    let mut config = config();
    config.queue_capacity = 1;
    config.batch.min = 1;
    config.batch.max = 1;
    let rig = Rig::new(Script::default(), config);
    let engine = engine(&rig, 8);
    let found = texts(engine.generate_stream(vec!["AB"; 12], options(5)));
    assert_eq!(found.len(), 12);
    assert!(found.values().all(|text| text.len() == 5));
}

#[test]
fn a_manager_finds_engines_by_name_and_the_least_loaded() {
    let (first, second) = (Rig::plain(), Rig::plain());
    let manager = setup_streaming_computation(StreamingConfig::default());
    assert!(manager.least_loaded().is_none());
    let busy = manager.create_streaming_engine("a", first.engine.clone());
    manager.create_streaming_engine("b", second.engine.clone());
    first.stage.close();
    let mut results = busy.generate_stream("AB", options(4000));
    assert!(futures::FutureExt::now_or_never(results.next()).is_none());
    assert_eq!(manager.statistics()["a"].active, 1);
    let least = manager.least_loaded().unwrap();
    assert_eq!(least.statistics(), manager.get("b").unwrap().statistics());
    first.stage.open();
    drop(results);
    assert!(manager.remove("a").is_some() && manager.get("a").is_none());
}
