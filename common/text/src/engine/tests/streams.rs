//! Events of a single stream.

#![expect(clippy::disallowed_methods, reason = "tests wait on threads of their own")]

use std::collections::BTreeMap;
use std::time::Duration;

use futures::executor::block_on;
use futures::{FutureExt as _, StreamExt as _};

use crate::testing::{FAULT, Rig, Script, VOCAB, collect, config, letter, request, sampled};
use crate::{Constraint, ErrorCode, FinishReason, StreamEvent, StreamOptions, SubmitError};

#[test]
fn tokens_then_the_end_with_usage_and_summary() {
    let rig = Rig::plain();
    let output = rig.run(request("a", 1, 40, 20));
    assert_eq!(output.ids.len(), 20);
    assert!(output.ids.iter().all(|id| (*id as usize) < VOCAB), "padding is never chosen");
    assert_eq!(output.text, output.ids.iter().map(|id| letter(*id)).collect::<String>());
    assert_eq!((output.end.reason, output.end.matched), (FinishReason::Length, None));
    assert_eq!((output.end.usage.prompt_tokens, output.end.usage.cached_tokens), (40, 0));
    let summary = output.end.summary;
    assert_eq!((summary.total_tokens, summary.most_common_batch_size, summary.error_count), (20, 1, 0));
    assert!(summary.time_to_first_token.unwrap() <= summary.session_duration);
    assert!(summary.average_throughput > 0.0 && summary.max_memory_bytes > 0);
}

#[test]
fn the_same_prompt_again_is_found_in_the_cache_and_gives_the_same_text() {
    let rig = Rig::plain();
    let first = rig.run(request("a", 1, 100, 20));
    let second = rig.run(request("b", 1, 100, 20));
    assert_eq!(first.ids, second.ids);
    assert_eq!(second.end.usage.cached_tokens, 96);
    let now = rig.engine.snapshot();
    assert_eq!((now.prefix_queries, now.prefix_hits, now.prompt_tokens), (200, 96, 200));
}

#[test]
fn a_stop_string_ends_the_text_before_it_and_is_named() {
    let rig = Rig::plain();
    let whole = rig.run(request("a", 1, 10, 30)).text;
    let stop = whole[10..13].to_owned();
    let mut stopped = request("b", 1, 10, 30);
    stopped.stop.strings = vec![stop.clone(), "never".to_owned()];
    let output = rig.run(stopped);
    assert_eq!(output.text, whole[..whole.find(&stop).unwrap()]);
    assert_eq!((output.end.reason, output.end.matched), (FinishReason::Stop, Some(stop)));
    rig.wait_until_idle();
}

#[test]
fn the_held_back_beginning_of_a_stop_string_is_output_at_the_end() {
    let rig = Rig::plain();
    let whole = rig.run(request("a", 1, 10, 5)).text;
    let mut held = request("b", 1, 10, 5);
    held.stop.strings = vec![format!("{}never", &whole[4..])];
    let output = rig.run(held);
    assert_eq!((&*output.text, &*output.end.text), (&*whole, &whole[4..]));
}

#[test]
fn an_end_token_is_not_output_unless_it_is_ignored() {
    let rig = Rig::plain();
    let ids = rig.run(request("a", 1, 10, 30)).ids;
    let end = ids[7];
    let at = ids.iter().position(|id| *id == end).unwrap();
    let mut stopped = request("b", 1, 10, 30);
    stopped.stop.token_ids = vec![end];
    let output = rig.run(stopped.clone());
    assert_eq!(output.ids, ids[..at]);
    assert_eq!((output.end.reason, output.end.matched), (FinishReason::Stop, Some(letter(end).to_string())));
    stopped.id = "c".to_owned();
    stopped.stop.ignore_end = true;
    assert_eq!(rig.run(stopped).ids, ids);
}

#[test]
fn a_constraint_is_followed_to_its_end() {
    let rig = Rig::plain();
    let mut literal = request("a", 1, 10, 30);
    literal.constraint = Some(Constraint::Regex("HELLO".to_owned()));
    let output = rig.run(literal);
    assert_eq!((&*output.text, output.end.reason), ("HELLO", FinishReason::Stop));
    let mut bad = request("b", 1, 10, 30);
    bad.constraint = Some(Constraint::JsonObject);
    assert_eq!(rig.engine.submit(bad).unwrap_err(), SubmitError::Constraint("only literal texts".to_owned()));
}

#[test]
fn logprobs_come_with_bytes_when_asked_for() {
    let rig = Rig::plain();
    let mut with = request("a", 1, 10, 3);
    with.logprobs = Some(4);
    let mut stream = rig.engine.submit(with).unwrap();
    while let Some(event) = block_on(stream.next()) {
        if let StreamEvent::Token(token) = event {
            let logprob = token.logprob.unwrap();
            assert_eq!((logprob.chosen.id, &*logprob.chosen.bytes), (token.id, token.text.as_bytes()));
            assert_eq!((logprob.top.len(), logprob.top[0].id), (4, token.id));
            assert!(logprob.chosen.logprob < 0.0);
        }
    }
}

#[test]
fn bias_reaches_the_choice() {
    let rig = Rig::plain();
    let mut biased = request("a", 1, 10, 5);
    biased.sampling.logit_bias = BTreeMap::from([(7, 100.0)]);
    assert_eq!(rig.run(biased).ids, [7; 5]);
}

#[test]
fn a_slow_reader_pauses_only_itself_and_gets_everything() {
    let rig = Rig::plain();
    let wanted = rig.run(sampled(request("a", 1, 10, 300), 9)).ids;
    let options = StreamOptions { buffer_size: Some(10) };
    let slow = rig.engine.submit_with(sampled(request("slow", 1, 10, 300), 9), options).unwrap();
    assert_eq!(rig.run(request("fast", 2, 10, 200)).ids.len(), 200);
    // The other stream has ended meanwhile; this one is paused with a full buffer plus the tokens of steps in progress.
    for _ in 0..1000 {
        if rig.engine.snapshot().paused == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let now = rig.engine.snapshot();
    assert_eq!((now.paused, now.running), (1, 0));
    assert!((10..=15).contains(&slow.ready()), "{}", slow.ready());
    assert_eq!(collect(slow).ids, wanted);
}

#[test]
fn a_reader_that_is_behind_can_take_several_events_at_once() {
    let rig = Rig::plain();
    let mut stream = rig.engine.submit(request("a", 1, 10, 20)).unwrap();
    rig.wait_until_idle();
    let mut events = Vec::new();
    loop {
        let some = block_on(stream.next_many(8));
        assert!(some.len() <= 8);
        if some.is_empty() {
            break;
        }
        events.push(some.len());
    }
    assert_eq!(events.iter().sum::<usize>(), 21);
}

#[test]
fn a_fault_in_the_text_of_one_stream_leaves_the_others_alone() {
    let wanted = Rig::plain().run(request("a", 1, 40, 20));
    let rig = Rig::plain();
    rig.stage.close();
    let good = rig.engine.submit(request("good", 1, 40, 20)).unwrap();
    let mut bad = request("bad", 2, 40, 20);
    bad.stop.strings = vec![FAULT.to_owned()];
    let bad = rig.engine.submit(bad).unwrap();
    rig.stage.open();
    let output = collect(bad);
    assert_eq!((output.errors[0].code, output.end.reason), (ErrorCode::StepFailed, FinishReason::Error));
    assert_eq!(collect(good).text, wanted.text);
    rig.wait_until_idle();
}

#[test]
fn a_reader_who_never_reads_is_ended() {
    let mut config = config();
    config.slow_reader_limit = Duration::from_millis(30);
    let rig = Rig::new(Script::default(), config);
    let options = StreamOptions { buffer_size: Some(4) };
    let stream = rig.engine.submit_with(request("a", 1, 10, 3000), options).unwrap();
    rig.wait_until_idle();
    let output = collect(stream);
    assert_eq!((output.errors[0].code, output.end.reason), (ErrorCode::ReaderTooSlow, FinishReason::Error));
    assert!(output.ids.len() >= 4 && output.ids.len() < 3000);
}

#[test]
fn bad_requests_are_refused_with_the_fields_name() {
    let rig = Rig::plain();
    let field = |change: fn(&mut crate::GenerationRequest)| {
        let mut bad = request("a", 1, 10, 10);
        change(&mut bad);
        match rig.engine.submit(bad) {
            Err(SubmitError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(|bad| bad.prompt.tokens.clear()), "prompt");
    assert_eq!(field(|bad| bad.prompt.tokens[3] = 9999), "prompt");
    assert_eq!(field(|bad| bad.stop.max_tokens = 0), "max_tokens");
    assert_eq!(field(|bad| bad.priority = 10), "priority");
    assert_eq!(field(|bad| bad.sampling.temperature = f32::NAN), "temperature");
    assert_eq!(field(|bad| bad.sampling.top_p = 0.0), "top_p");
    assert_eq!(field(|bad| bad.sampling.min_p = 1.5), "min_p");
    assert_eq!(field(|bad| bad.sampling.repetition_penalty = 0.0), "repetition_penalty");
    let long = rig.engine.submit(request("a", 1, 8192, 1)).unwrap_err();
    assert_eq!(long, SubmitError::ContextExceeded { prompt_tokens: 8192, max_context: 8192 });
    assert_eq!(rig.stage.script().loads, 0, "nothing was loaded for them");
}

#[test]
fn an_id_is_unavailable_while_its_stream_is_active() {
    let rig = Rig::new(Script { closed: true, ..Script::default() }, config());
    let stream = rig.engine.submit(request("a", 1, 10, 5)).unwrap();
    let again = rig.engine.submit(request("a", 1, 10, 5)).unwrap_err();
    assert_eq!(again, SubmitError::DuplicateId("a".to_owned()));
    rig.stage.open();
    collect(stream);
    rig.run(request("a", 1, 10, 5));
}

#[test]
fn a_full_queue_gives_a_retry_time_and_signals_free_space() {
    let mut config = config();
    config.queue_capacity = 2;
    let rig = Rig::new(Script { closed: true, ..Script::default() }, config);
    let streams: Vec<_> =
        ["a", "b"].into_iter().map(|id| rig.engine.submit(request(id, 1, 10, 5)).unwrap()).collect();
    match rig.engine.submit(request("c", 1, 10, 5)) {
        Err(SubmitError::QueueFull { waiting, retry_after, .. }) => {
            assert_eq!((waiting, retry_after >= Duration::from_secs(1)), (2, true));
        }
        other => panic!("{other:?}"),
    }
    let mut space = rig.engine.wait_for_queue_space("somebody");
    assert!((&mut space).now_or_never().is_none());
    rig.stage.open();
    block_on(space);
    rig.run(request("c", 1, 10, 5));
    assert_eq!(streams.into_iter().map(collect).filter(|output| output.ids.len() == 5).count(), 2);
    assert_eq!(rig.engine.snapshot().refused, 1);
}
