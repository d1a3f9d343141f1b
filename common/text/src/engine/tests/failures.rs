//! Failed steps, lack of memory, and panics.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::executor::block_on;
use videosdgx_model::{LoaderConfig, Memory, MemoryProbe, ModelLoader};

use crate::telemetry::StreamingTelemetryCollector;
use crate::testing::{
    BOMB, Letters, NOTHING, POISON, Rig, Script, Stage, collect, config, fake_load, request,
};
use crate::{EngineHooks, ErrorCode, FinishReason, KvCacheSize, TextEngine};

#[test]
fn a_failed_step_is_retried_without_effect_on_the_text() {
    let wanted = Rig::plain().run(request("a", 1, 40, 20)).ids;
    let rig = Rig::new(Script { fail_steps: BTreeSet::from([0, 7]), ..Script::default() }, config());
    let output = rig.run(request("a", 1, 40, 20));
    assert_eq!(output.ids, wanted);
    let seen: Vec<_> =
        output.errors.iter().map(|error| (error.code, error.recoverable, error.position)).collect();
    assert_eq!(seen, [(ErrorCode::StepFailed, true, 0), (ErrorCode::StepFailed, true, 6)]);
    assert_eq!((output.end.reason, output.end.summary.error_count), (FinishReason::Length, 2));
    assert_eq!((rig.engine.snapshot().recovered_steps, rig.engine.snapshot().failed_steps), (2, 0));
    assert_eq!(rig.telemetry.totals().recovered_errors, 2);
}

#[test]
fn a_sequence_that_cannot_be_computed_ends_alone() {
    let wanted = Rig::plain().run(request("a", 1, 40, 20)).ids;
    for (token, code) in [(POISON, ErrorCode::StepFailed), (NOTHING, ErrorCode::NumericalFailure)] {
        let rig = Rig::plain();
        rig.stage.close();
        let good = rig.engine.submit(request("good", 1, 40, 20)).unwrap();
        let mut bad = request("bad", 2, 40, 20);
        bad.prompt.tokens[20] = token;
        let bad = rig.engine.submit(bad).unwrap();
        rig.stage.open();
        assert_eq!(collect(good).ids, wanted);
        let output = collect(bad);
        let last = output.errors.last().unwrap();
        assert_eq!((last.code, last.recoverable, output.end.reason), (code, false, FinishReason::Error));
        rig.wait_until_idle();
        assert_eq!(rig.engine.snapshot().cache.used, 0);
    }
}

#[test]
fn a_panic_ends_only_the_sequence_that_causes_it() {
    let wanted = Rig::plain().run(request("a", 1, 40, 20)).ids;
    let rig = Rig::plain();
    rig.stage.close();
    let good = rig.engine.submit(request("good", 1, 40, 20)).unwrap();
    let mut bomb = request("bad", 2, 40, 20);
    bomb.prompt.tokens[20] = BOMB;
    let bomb = rig.engine.submit(bomb).unwrap();
    rig.stage.open();
    assert_eq!(collect(good).ids, wanted);
    let output = collect(bomb);
    let seen: Vec<_> = output.errors.iter().map(|error| (error.code, error.recoverable)).collect();
    assert_eq!(seen, [(ErrorCode::StepFailed, true), (ErrorCode::StepFailed, false)]);
    assert_eq!(rig.stage.script().loads, 3, "a model that was in a panic is not used again");
    assert_eq!(rig.run(request("after", 1, 40, 20)).ids, wanted);
}

#[test]
fn a_cache_that_cannot_grow_limits_the_batch() {
    let requests = || (0..6_u32).map(|kind| request(&kind.to_string(), kind * 7, 400, 100));
    let wanted: Vec<_> = requests().map(|one| Rig::plain().run(one).ids).collect();
    let rig = Rig::new(Script { most_blocks: Some(80), ..Script::default() }, config());
    rig.stage.close();
    let streams: Vec<_> = requests().map(|one| rig.engine.submit(one).unwrap()).collect();
    rig.stage.open();
    let found: Vec<_> = streams.into_iter().map(|stream| collect(stream).ids).collect();
    assert_eq!(found, wanted);
    let limit = rig.engine.snapshot().cache.limit;
    assert!((70..=80).contains(&limit), "{limit}");
    let output = rig.run(request("large", 1, 2000, 5));
    assert_eq!(
        (output.errors[0].code, output.end.reason),
        (ErrorCode::MemoryLimitExceeded, FinishReason::Error)
    );
}

#[test]
fn a_step_out_of_memory_is_retried_with_a_smaller_chunk() {
    let wanted = Rig::plain().run(request("a", 1, 400, 20)).ids;
    // The first two attempts compute the whole prompt.
    let rig = Rig::new(Script { starve_steps: BTreeSet::from([0, 1]), ..Script::default() }, config());
    let output = rig.run(request("a", 1, 400, 20));
    assert_eq!(output.ids, wanted);
    let script = rig.stage.script();
    assert_eq!(script.steps[..3], [vec![400], vec![400], vec![200]]);
}

#[test]
fn a_device_that_fails_for_good_ends_every_stream_without_another_step_and_reports_itself() {
    let rig = Rig::new(Script { broken_from: Some(2), ..Script::default() }, config());
    rig.stage.close();
    let streams: Vec<_> =
        ["a", "b"].into_iter().map(|id| rig.engine.submit(request(id, 1, 30, 20)).unwrap()).collect();
    rig.stage.open();
    for stream in streams {
        let output = collect(stream);
        assert_eq!(output.end.reason, FinishReason::Error);
        let error = output.errors.last().expect("the reason");
        assert_eq!(error.code, ErrorCode::ModelUnavailable);
        assert!(error.message.contains("CUDA error: as the script says"), "{}", error.message);
    }
    assert_eq!(rig.stage.script().steps.len(), 3, "the failed step is not tried again");
    assert_eq!(block_on(videosdgx_model::device_failure()), "CUDA error: as the script says");
}

#[test]
fn a_step_out_of_memory_leaves_the_device_in_use() {
    let rig =
        Rig::new(Script { starve_steps: BTreeSet::from([0, 1, 2, 3, 4]), ..Script::default() }, config());
    // Each request is given up after some attempts; the next one finds the device in use.
    while rig.stage.script().steps.len() < 5 {
        let _ = rig.run(request("a", 1, 30, 5));
    }
    assert_eq!(videosdgx_model::failed_device(), None);
    assert_eq!(rig.run(request("b", 1, 30, 5)).end.reason, FinishReason::Length);
}

#[test]
fn a_sequence_larger_than_the_cache_ends_with_an_error() {
    let mut config = config();
    config.kv_cache = KvCacheSize::Bytes(4 << 10);
    let rig = Rig::new(Script::default(), config);
    let output = rig.run(request("a", 1, 30, 100));
    assert_eq!(output.errors[0].code, ErrorCode::MemoryLimitExceeded);
    assert_eq!(output.ids.len(), 64 - 30 + 1, "everything that fitted came");
}

/// A memory probe that also records the engine's state on each reading.
#[derive(Default)]
struct Gauge {
    available: AtomicU64,
    unloads: AtomicUsize,
    engine: OnceLock<TextEngine>,
    seen: Mutex<Vec<(usize, bool, usize)>>,
}

impl MemoryProbe for Gauge {
    fn memory(&self) -> Option<Memory> {
        if let Some(engine) = self.engine.get() {
            let now = engine.snapshot();
            let state = (now.max_running, now.cache.capacity <= 64, self.unloads.load(Ordering::Relaxed));
            self.seen.lock().unwrap().push(state);
        }
        Some(Memory { total: 1000, available: self.available.load(Ordering::Relaxed) })
    }
}

#[test]
fn memory_pressure_gives_up_sequences_then_caches_then_idle_models_and_no_stream() {
    let stage = Stage::new(Script::default());
    let loader = ModelLoader::new(fake_load(&stage), LoaderConfig::new("fake")).unwrap();
    let gauge = Arc::new(Gauge { available: AtomicU64::new(900), ..Gauge::default() });
    let counted = Arc::clone(&gauge);
    let hooks = EngineHooks {
        memory: Arc::clone(&gauge) as Arc<dyn MemoryProbe>,
        unload_idle: Some(Arc::new(move || {
            counted.unloads.fetch_add(1, Ordering::Relaxed);
        })),
    };
    let mut config = config();
    config.batch.min = 1;
    config.batch.device_memory = Some(64 << 30);
    config.memory_pressure.interval = Duration::ZERO;
    let telemetry = StreamingTelemetryCollector::default();
    let engine = TextEngine::start_with(loader, config, Arc::new(Letters), telemetry, hooks).unwrap();
    // Fills the cache with prefixes that can be evicted.
    assert_eq!(collect(engine.submit(request("a", 1, 2000, 2)).unwrap()).ids.len(), 2);
    assert!(engine.snapshot().cache.cached >= 124);
    assert!(gauge.engine.set(engine.clone()).is_ok());
    gauge.available.store(10, Ordering::Relaxed);
    assert_eq!(collect(engine.submit(request("b", 2, 10, 90)).unwrap()).ids.len(), 90);
    let seen = std::mem::take(&mut *gauge.seen.lock().unwrap());
    // Before and after the warning, then one action after another; the cache grows again only as needed.
    assert_eq!(seen[..5], [(8, false, 0), (8, false, 0), (4, false, 0), (2, true, 0), (1, true, 1)]);
    assert!(seen[5..].iter().all(|(running, small, _)| *running == 1 && *small), "{seen:?}");
}
