//! Loading, unloading, cancellation, deadlines and shutdown.

#![expect(clippy::disallowed_methods, reason = "tests wait on threads of their own")]

use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::{FutureExt as _, StreamExt as _};

use crate::testing::{Rig, Script, collect, config, request};
use crate::{ErrorCode, FinishReason, StreamEvent, StreamOptions, SubmitError};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn nothing_is_loaded_before_the_first_request_and_an_unload_in_between_changes_nothing() {
    let rig = Rig::plain();
    assert_eq!(rig.stage.script().loads, 0);
    let before = rig.run(request("a", 1, 40, 20));
    assert!(block_on(rig.loader.unload(SOON)).unwrap().was_loaded);
    let after = rig.run(request("b", 1, 40, 20));
    assert_eq!(before.ids, after.ids);
    assert_eq!(after.end.usage.cached_tokens, 0, "the cache went with the model");
    assert_eq!(rig.stage.script().loads, 2);
}

#[test]
fn an_unload_waits_for_what_runs_and_what_waits_loads_again() {
    let mut config = config();
    config.batch.min = 1;
    config.batch.max = 1;
    let rig = Rig::new(Script { step_delay: Duration::from_millis(2), ..Script::default() }, config);
    let running = rig.engine.submit(request("a", 1, 10, 60)).unwrap();
    rig.stage.wait_for_steps(2);
    let waiting = rig.engine.submit(request("b", 2, 10, 5)).unwrap();
    assert!(block_on(rig.loader.unload(SOON)).unwrap().was_loaded);
    assert_eq!(collect(running).ids.len(), 60);
    assert_eq!(collect(waiting).ids.len(), 5);
    assert_eq!(rig.stage.script().loads, 2);
}

#[test]
fn a_failed_load_fails_waiting_requests_and_is_retried_for_the_next() {
    let rig = Rig::new(Script { failing_loads: 1, ..Script::default() }, config());
    let output = rig.run(request("a", 1, 10, 5));
    assert_eq!(
        (output.errors[0].code, output.end.reason),
        (ErrorCode::ModelUnavailable, FinishReason::Error)
    );
    assert!(!output.errors[0].recoverable);
    assert_eq!(rig.run(request("b", 1, 10, 5)).ids.len(), 5);
}

#[test]
fn others_get_the_model_between_steps() {
    let rig = Rig::new(Script { step_delay: Duration::from_millis(1), ..Script::default() }, config());
    let options = StreamOptions { buffer_size: Some(5000) };
    let stream = rig.engine.submit_with(request("a", 1, 10, 2000), options).unwrap();
    rig.stage.wait_for_steps(2);
    block_on(rig.loader.run(|_| ())).unwrap();
    assert_eq!(rig.engine.snapshot().running, 1, "it still runs");
    drop(stream);
}

#[test]
fn a_cancelled_stream_ends_at_once_and_its_slot_is_free_within_a_step() {
    let rig = Rig::plain();
    let mut stream = rig.engine.submit(request("a", 1, 10, 8000)).unwrap();
    assert!(matches!(block_on(stream.next()), Some(StreamEvent::Token(_))));
    assert!(rig.engine.cancel("a"));
    assert!(!rig.engine.cancel("a"));
    let steps = rig.stage.script().steps.len();
    let rest = block_on(stream.collect::<Vec<_>>());
    let Some(StreamEvent::Completed(end)) = rest.last() else { panic!("{rest:?}") };
    assert_eq!(end.reason, FinishReason::Cancelled);
    assert!(rig.stage.script().steps.len() <= steps + 1);
    assert_eq!(rig.engine.snapshot().cache.used, 0);
}

#[test]
fn a_dropped_stream_frees_its_slot_within_a_step() {
    let rig = Rig::plain();
    rig.stage.close();
    let stream = rig.engine.submit(request("a", 1, 10, 8000)).unwrap();
    rig.stage.open();
    rig.stage.wait_for_steps(3);
    rig.stage.close();
    drop(stream);
    let steps = rig.stage.script().steps.len();
    assert_eq!((rig.engine.snapshot().running, rig.engine.snapshot().cache.used), (0, 0));
    rig.stage.open();
    rig.run(request("b", 2, 10, 1));
    // At most the step in progress, and the steps of the other stream.
    assert!(rig.stage.script().steps.len() <= steps + 2);
    assert_eq!(
        rig.telemetry.history().iter().filter(|session| session.reason == FinishReason::Cancelled).count(),
        1
    );
}

#[test]
fn a_deadline_holds_while_the_model_loads() {
    let rig = Rig::new(Script { closed: true, ..Script::default() }, config());
    let mut late = request("a", 1, 10, 5);
    late.deadline = Some(Duration::from_millis(30));
    let begun = Instant::now();
    let output = rig.run(late);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!(
        (output.errors[0].code, output.end.reason),
        (ErrorCode::DeadlineExceeded, FinishReason::Deadline)
    );
    assert_eq!(output.ids.len(), 0);
    rig.stage.open();
}

#[test]
fn a_deadline_ends_what_runs_with_what_there_is() {
    let rig = Rig::new(Script { step_delay: Duration::from_millis(2), ..Script::default() }, config());
    rig.run(request("warm", 1, 10, 1));
    let mut late = request("a", 1, 10, 8000);
    late.deadline = Some(Duration::from_millis(100));
    let output = rig.run(late);
    assert_eq!(output.end.reason, FinishReason::Deadline);
    assert!(!output.ids.is_empty() && output.ids.len() < 60);
}

#[test]
fn draining_refuses_newcomers_and_waits_for_who_is_there() {
    let rig = Rig::plain();
    rig.stage.close();
    let stream = rig.engine.submit(request("a", 1, 10, 50)).unwrap();
    let mut drained = rig.engine.drain();
    assert!((&mut drained).now_or_never().is_none());
    assert_eq!(rig.engine.submit(request("b", 1, 10, 5)).unwrap_err(), SubmitError::Draining);
    rig.stage.open();
    block_on(drained);
    assert_eq!(collect(stream).ids.len(), 50);
    assert!(rig.engine.drain().now_or_never().is_some());
}

#[test]
fn aborting_ends_all_streams_with_a_word() {
    let rig = Rig::plain();
    let streams: Vec<_> =
        ["a", "b"].into_iter().map(|id| rig.engine.submit(request(id, 1, 10, 8000)).unwrap()).collect();
    rig.stage.wait_for_steps(5);
    rig.engine.abort();
    block_on(rig.engine.drain());
    for output in streams.into_iter().map(collect) {
        assert_eq!(output.errors[0].code, ErrorCode::Draining);
    }
}

#[test]
fn streams_outlive_the_engines_last_handle() {
    let rig = Rig::plain();
    rig.stage.close();
    let stream = rig.engine.submit(request("a", 1, 10, 50)).unwrap();
    let stage = rig.stage.clone();
    drop(rig);
    stage.open();
    assert_eq!(collect(stream).ids.len(), 50);
}

#[test]
fn an_idle_engine_does_nothing() {
    let rig = Rig::plain();
    rig.run(request("a", 1, 10, 5));
    rig.wait_until_idle();
    let steps = rig.stage.script().steps.len();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(rig.stage.script().steps.len(), steps);
    assert!(matches!(rig.loader.snapshot().state, videosdgx_model::State::Loaded { in_use: 0, .. }));
}

/// A panic outside the code of one stream ends the delivery thread, which is known to the process.
#[test]
fn a_delivery_thread_that_panics_is_recorded_for_the_process() {
    struct Bomb;
    impl futures::task::ArcWake for Bomb {
        fn wake_by_ref(_: &std::sync::Arc<Self>) {
            panic!("a bug");
        }
    }
    let rig = Rig::new(Script { closed: true, ..Script::default() }, config());
    let mut stream = rig.engine.submit(request("a", 1, 10, 5)).unwrap();
    let waker = futures::task::waker(std::sync::Arc::new(Bomb));
    assert!(stream.poll_next_unpin(&mut std::task::Context::from_waker(&waker)).is_pending());
    rig.stage.open();
    let failed = block_on(videosdgx_threads::thread_failure());
    assert!(failed.name.starts_with("delivery-"), "{failed:?}");
}
