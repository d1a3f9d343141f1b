//! Batches of several sequences.

use std::time::Duration;

use futures::FutureExt as _;
use futures::executor::block_on;

use crate::testing::{Rig, Script, collect, config, request, sampled};
use crate::{KvCacheSize, PrefixSharing, StreamOptions};

#[test]
fn the_same_seed_gives_the_same_tokens_alone_and_among_eight_others() {
    let alone = Rig::plain().run(sampled(request("a", 1, 40, 60), 42)).ids;
    let rig = Rig::plain();
    rig.stage.close();
    let streams: Vec<_> = (0..9_u32)
        .map(|number| {
            let seed = if number == 4 { 42 } else { u64::from(number) };
            let kind = if number == 4 { 1 } else { number + 10 };
            let tokens = if number == 4 { 40 } else { 30 + number as usize * 37 };
            rig.engine.submit(sampled(request(&number.to_string(), kind, tokens, 60), seed)).unwrap()
        })
        .collect();
    rig.stage.open();
    let outputs: Vec<_> = streams.into_iter().map(collect).collect();
    assert_eq!(outputs[4].ids, alone);
    assert_ne!(outputs[3].ids, alone);
    assert!(rig.stage.script().steps.iter().any(|step| step.len() == 8), "they did run together");
}

#[test]
fn a_short_cache_preempts_and_gives_the_same_text() {
    let requests =
        || (0..6_u32).map(|kind| sampled(request(&kind.to_string(), kind * 7, 40, 80), kind.into()));
    let wanted: Vec<_> = requests().map(|one| Rig::plain().run(one).ids).collect();
    let mut config = config();
    // 20 blocks of 1,024 bytes; the six sequences need 48.
    config.kv_cache = KvCacheSize::Bytes(20 << 10);
    let rig = Rig::new(Script::default(), config);
    rig.stage.close();
    let streams: Vec<_> = requests().map(|one| rig.engine.submit(one).unwrap()).collect();
    rig.stage.open();
    let found: Vec<_> = streams.into_iter().map(|stream| collect(stream).ids).collect();
    assert_eq!(found, wanted);
    let now = rig.engine.snapshot();
    assert!(now.preemptions > 0);
    assert_eq!((now.cache.used, now.cache.limit), (0, 20));
    assert!(rig.stage.script().most_blocks_seen <= 20);
}

#[test]
fn a_long_prompt_is_taken_in_chunks_beside_running_streams_none_of_which_misses_a_step() {
    let wanted = Rig::plain().run(request("x", 3, 4000, 5)).ids;
    let rig = Rig::new(Script { step_delay: Duration::from_micros(300), ..Script::default() }, config());
    let options = StreamOptions { buffer_size: Some(5000) };
    let stream = |kind: u32| rig.engine.submit_with(request(&kind.to_string(), kind * 10, 20, 2000), options);
    let streams: Vec<_> = (0..4).map(|kind| stream(kind).unwrap()).collect();
    rig.stage.wait_for_steps(30);
    let before = rig.stage.script().steps.len();
    let long = rig.engine.submit(request("long", 3, 4000, 5)).unwrap();
    assert_eq!(collect(long).ids, wanted);
    drop(streams);
    let script = rig.stage.script();
    let mixed: Vec<_> =
        script.steps[before..].iter().filter(|step| step.iter().any(|tokens| *tokens > 1)).collect();
    assert!(mixed.len() >= 4000 / 512, "{} chunks", mixed.len());
    for step in &mixed {
        assert_eq!(step[..4], [1; 4], "every stream is decoded in every step");
        assert!(step[4..].iter().sum::<usize>() <= 512);
    }
}

#[test]
fn equal_prompts_submitted_together_are_computed_once() {
    let rig = Rig::plain();
    rig.stage.close();
    let streams: Vec<_> = (0..4)
        .map(|number| rig.engine.submit(sampled(request(&number.to_string(), 1, 200, 10), number)).unwrap())
        .collect();
    rig.stage.open();
    let outputs: Vec<_> = streams.into_iter().map(collect).collect();
    assert_eq!(outputs.iter().map(|output| output.end.usage.cached_tokens).sum::<usize>(), 3 * 192);
    let alone = Rig::plain().run(sampled(request("a", 1, 200, 10), 2)).ids;
    assert_eq!(outputs[2].ids, alone);
}

#[test]
fn prefixes_are_shared_as_far_as_the_settings_say() {
    for (sharing, same, other) in
        [(PrefixSharing::All, 96, 96), (PrefixSharing::PerPrincipal, 96, 0), (PrefixSharing::Off, 0, 0)]
    {
        let mut config = config();
        config.prefix_sharing = sharing;
        let rig = Rig::new(Script::default(), config);
        rig.run(request("a", 1, 100, 5));
        assert_eq!(rig.run(request("b", 1, 100, 5)).end.usage.cached_tokens, same, "{sharing:?}");
        let mut else_ = request("c", 1, 100, 5);
        else_.principal = "else".to_owned();
        assert_eq!(rig.run(else_).end.usage.cached_tokens, other, "{sharing:?}");
    }
}

#[test]
fn the_cache_starts_small_and_grows_on_demand() {
    let rig = Rig::plain();
    rig.run(request("a", 1, 40, 10));
    let small = rig.stage.script().blocks;
    rig.run(request("b", 2, 4000, 10));
    let large = rig.stage.script().blocks;
    assert!(small <= 64 && (251..600).contains(&large), "{small} {large}");
    assert_eq!(rig.engine.snapshot().cache.capacity, large);
}

#[test]
fn higher_priority_overtakes_and_the_lower_still_gives_the_same_text() {
    let mut config = config();
    config.batch.min = 1;
    config.batch.max = 1;
    let rig = Rig::new(Script { step_delay: Duration::from_micros(200), ..Script::default() }, config);
    let wanted = rig.run(request("w", 1, 30, 300)).ids;
    let mut low = request("low", 1, 30, 300);
    low.priority = 0;
    let low = rig.engine.submit(low).unwrap();
    rig.stage.wait_for_steps(320);
    let mut high = request("high", 2, 30, 10);
    high.priority = 9;
    rig.run(high);
    let state = rig.engine.snapshot();
    assert_eq!(state.running + state.waiting + state.paused, 1, "the low one goes on after it: {state:?}");
    assert_eq!(collect(low).ids, wanted);
    assert_eq!(rig.engine.snapshot().preemptions, 1);
}

#[test]
fn a_principal_with_32_long_generations_does_not_delay_the_first_tokens_of_another() {
    let rig = Rig::plain();
    rig.stage.close();
    let of = |principal: &str, id: u32, tokens: usize| {
        let mut request = sampled(request(&format!("{principal}-{id}"), id * 7, 20, tokens), id.into());
        request.principal = principal.to_owned();
        rig.engine.submit_with(request, StreamOptions { buffer_size: Some(5000) }).unwrap()
    };
    let long: Vec<_> = (0..32).map(|id| of("greedy", id, 4000)).collect();
    let modest = of("modest", 40, 4);
    rig.stage.open();
    let output = collect(modest);
    let steps = rig.stage.script().steps.len();
    drop(long);
    assert_eq!(output.ids.len(), 4);
    // All prompts are short: the bound of docs/streaming.md is 14 steps for the first token. The rest is for steps that were begun
    // before the test looked.
    assert!(steps < 200, "{steps} steps");
}

#[test]
fn the_queue_has_places_for_others_when_one_principal_has_used_up_its_share() {
    let mut config = config();
    config.queue_capacity = 16;
    let rig = Rig::new(Script { closed: true, ..Script::default() }, config);
    let submit = |principal: &str, id: usize| {
        let mut request = request(&format!("{principal}-{id}"), 1, 10, 5);
        request.principal = principal.to_owned();
        rig.engine.submit(request)
    };
    let greedy: Vec<_> = (0..64).map_while(|id| submit("greedy", id).ok()).collect();
    let refused = submit("greedy", 64).unwrap_err();
    assert!(refused.to_string().starts_with("your share of the queue is full"), "{refused}");
    let mut space = rig.engine.wait_for_queue_space("greedy");
    assert!((&mut space).now_or_never().is_none());
    let modest = submit("modest", 0).unwrap();
    rig.stage.open();
    block_on(space);
    assert_eq!(collect(modest).ids.len(), 5);
    assert!(greedy.into_iter().all(|stream| collect(stream).ids.len() == 5));
}
