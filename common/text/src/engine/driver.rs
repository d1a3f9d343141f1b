//! The thread that brings the engine's work to the loader's inference thread.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use videosdgx_model::{Load, LoaderError, ModelLoader};

use super::delivery::Message;
use super::shared::Shared;
use super::step_loop::{LoaderView, Progress, StepLoop};
use crate::ErrorCode;
use videosdgx_decoder_api::Decoder;

/// After a burst that could do nothing though there is work, it looks again only after this time or when something happens.
const REST: Duration = Duration::from_millis(20);

/// Runs bursts while there is work, and sleeps while there is none; ends when the engine is closed and nobody is left.
pub(super) fn run<L>(shared: &Arc<Shared>, loader: &ModelLoader<L>)
where
    L: Load,
    L::Model: Decoder,
{
    while wait_for_work(shared) {
        let (inner, view) = (Arc::clone(shared), loader.clone());
        let outcome = loader.run_blocking(move |model| {
            let look = || {
                let snapshot = view.snapshot();
                let in_use = match snapshot.state {
                    videosdgx_model::State::Loaded { in_use, .. } => in_use,
                    _ => 0,
                };
                LoaderView { loads: snapshot.loads, waiting: snapshot.waiting, in_use }
            };
            StepLoop::new(&inner, model, &look).run()
        });
        match outcome {
            Ok(Progress::Some) => {}
            Ok(Progress::None) => rest(shared),
            Err(error) => failed(shared, &error),
        }
    }
    shared.send(Message::Close);
}

/// Whether there is work; `false` at the end.
fn wait_for_work(shared: &Shared) -> bool {
    let mut core = shared.lock();
    loop {
        if core.scheduler.has_work() {
            return true;
        }
        if core.closed && core.scheduler.len() == 0 {
            return false;
        }
        core = shared.work_came.wait(core).unwrap_or_else(PoisonError::into_inner);
    }
}

fn rest(shared: &Shared) {
    let core = shared.lock();
    if core.scheduler.has_work() {
        drop(shared.work_came.wait_timeout(core, REST).unwrap_or_else(PoisonError::into_inner));
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
    // The loader has dropped the model. Who was in the step is tried again, alone; the others are only computed anew.
    let mut suspects = std::mem::take(&mut core.in_step);
    if suspects.is_empty() {
        suspects = core.scheduler.sequence_ids();
    }
    core.counts.failed += 1;
    core.scheduler.crashed(shared.now(), &suspects);
    let ended = core.take_ended();
    shared.release(core);
    tracing::error!(model, %error, sequences = suspects.len(), "step_crashed");
    for seq in &ended {
        shared.send(Message::ended(*seq));
    }
    shared.send(Message::Recovered {
        seqs: suspects,
        message: "the step failed and is tried again".to_owned(),
    });
}
