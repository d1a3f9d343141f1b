//! The driver thread: submits the engine's work to the loader's inference thread.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use videosdgx_model::{Load, LoaderError, ModelLoader};

use super::delivery::Message;
use super::shared::Shared;
use super::step_loop::{LoaderView, Progress, StepLoop};
use crate::ErrorCode;
use videosdgx_decoder_api::Decoder;

/// Pause after a step loop that could compute nothing although sequences exist; a new event ends it earlier.
const IDLE_PAUSE: Duration = Duration::from_millis(20);

/// Runs step loops while there is work and sleeps otherwise; returns when the engine is closed and no sequence is left.
pub(super) fn run<L>(shared: &Arc<Shared>, loader: &ModelLoader<L>)
where
    L: Load,
    L::Model: Decoder,
{
    while wait_for_work(shared) {
        let (inner, view) = (Arc::clone(shared), loader.clone());
        let outcome = loader.run_blocking(move |model| {
            let loader_view = || {
                let snapshot = view.snapshot();
                let in_use = match snapshot.state {
                    videosdgx_model::State::Loaded { in_use, .. } => in_use,
                    _ => 0,
                };
                LoaderView { loads: snapshot.loads, waiting: snapshot.waiting, in_use }
            };
            StepLoop::new(&inner, model, &loader_view).run()
        });
        match outcome {
            Ok(Progress::Some) => {}
            Ok(Progress::None) => pause(shared),
            Err(error) => failed(shared, &error),
        }
    }
    shared.send(Message::Close);
}

/// Blocks until there is work (`true`) or the engine is closed and empty (`false`).
fn wait_for_work(shared: &Shared) -> bool {
    let mut core = shared.lock();
    loop {
        if core.scheduler.has_work() {
            return true;
        }
        if core.closed && core.scheduler.len() == 0 {
            return false;
        }
        core = shared.work_available.wait(core).unwrap_or_else(PoisonError::into_inner);
    }
}

fn pause(shared: &Shared) {
    let core = shared.lock();
    if core.scheduler.has_work() {
        drop(shared.work_available.wait_timeout(core, IDLE_PAUSE).unwrap_or_else(PoisonError::into_inner));
    }
}

fn failed<E: std::error::Error>(shared: &Shared, error: &LoaderError<E>) {
    let model = &shared.config.model;
    let mut core = shared.lock();
    let in_step_loop = std::mem::take(&mut core.in_step_loop);
    if !in_step_loop || !matches!(error, LoaderError::Panicked(_)) {
        drop(core);
        tracing::warn!(model, %error, "model_unavailable");
        shared.fail_all(ErrorCode::ModelUnavailable, &error.to_string());
        return;
    }
    // The loader has dropped the model. The sequences of the step are retried one at a time; the others are only recomputed.
    let mut suspects = std::mem::take(&mut core.in_step);
    if suspects.is_empty() {
        suspects = core.scheduler.sequence_ids();
    }
    core.counts.failed += 1;
    core.scheduler.step_crashed(shared.now(), &suspects);
    let ended = core.take_ended();
    shared.release(core);
    tracing::error!(model, %error, sequences = suspects.len(), "step_crashed");
    for seq in &ended {
        shared.send(Message::ended(*seq));
    }
    shared.send(Message::Recovered { seqs: suspects, message: "the step failed and is retried".to_owned() });
}
