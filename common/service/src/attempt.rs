//! One attempt at one job: from the claim to a file under its final name.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use videosdgx_api::{LoaderState, ResolvedRequest, Stage};
use videosdgx_jobs::{Claim, JobOutput, Progress, Signal, wait};
use videosdgx_model::ModelLoader;
use videosdgx_shell::Loader as _;

use crate::{
    Engine, EngineError, GenerateContext, Interrupt, InterruptReason,
    engine::EngineLoad,
    exchange::{self, Generated},
    job_view::{self, Used},
    output_file::{FileKind, OutputFile},
    outputs::Outputs,
    service::Service,
    worker::Fault,
};

/// How often the model is loaded for one attempt while its checkpoint is being exchanged.
const MAX_LOADS: u32 = 3;
/// How long the unloading of an exchanged model waits for other uses, which the worker's own loader does not have.
const UNLOAD_TIME: Duration = Duration::from_secs(60);

/// A file under its final name that has not been reported to the queue yet.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) output: JobOutput,
    pub(crate) stages: Vec<(Stage, f64)>,
    pub(crate) seconds: f64,
}

pub(crate) struct Attempt<'a, E: Engine> {
    pub(crate) service: &'a Arc<Service>,
    pub(crate) engine: &'a Arc<E>,
    pub(crate) loader: &'a ModelLoader<EngineLoad<E>>,
}

impl<E: Engine> Attempt<'_, E> {
    pub(crate) fn run(&self, claim: &Claim, interrupt: &Interrupt) -> Result<Finished, Fault> {
        let began = Instant::now();
        let (job, attempt) = (&claim.lease.job, claim.lease.attempt);
        let outputs = &self.service.outputs;
        let request = Self::request(claim)?;
        let format = request.settings.format;
        let temporary = outputs.temporary(job, attempt, FileKind::Result(format));
        let scratch = outputs.scratch(job)?;
        Outputs::check_room(&temporary, &scratch)?;
        let clock = Arc::new(Mutex::new(StageClock::default()));
        let context = GenerateContext::new(
            job.clone(),
            attempt,
            &temporary,
            scratch,
            interrupt.clone(),
            self.reporter(claim, Arc::clone(&clock)),
        );
        if self.loader.report().state != LoaderState::Loaded {
            context.progress(Stage::Loading, 0, 1);
        }
        let resolved_anew = self.generate(request, context)?;
        self.report(claim, &clock, Stage::Saving, 0, 1);
        let bytes = Outputs::sync(&temporary)?;
        self.still_holds(claim, interrupt)?;
        let format = resolved_anew.as_ref().map_or(format, |request| request.settings.format);
        let result = OutputFile::finished(job, attempt, FileKind::Result(format));
        outputs.publish(&temporary, &result)?;
        let stages = clock.lock().unwrap_or_else(PoisonError::into_inner).stop();
        let used = Used { stage_seconds: stages.clone(), resolved_anew };
        let used = serde_json::to_string(&used).map_err(|error| Fault::Unreadable(error.to_string()))?;
        let output = JobOutput { path: result.name(), bytes, used };
        Ok(Finished { output, stages, seconds: began.elapsed().as_secs_f64() })
    }

    fn request(claim: &Claim) -> Result<ResolvedRequest, Fault> {
        let unreadable = |what: &str, error: &dyn std::fmt::Display| {
            Fault::Unreadable(format!("the stored {what} cannot be read: {error}"))
        };
        let mut request = job_view::request(&claim.body).map_err(|error| unreadable("request", &error))?;
        if let Some(attachments) = claim.attachment.clone() {
            let restored = request.settings.restore_attachments(attachments);
            restored.map_err(|error| unreadable("attachment", &error))?;
        }
        Ok(request)
    }

    /// Generates on the inference thread, loading the model if needed; the request that was run, if it is not `request`.
    fn generate(
        &self,
        request: ResolvedRequest,
        context: GenerateContext,
    ) -> Result<Option<ResolvedRequest>, Fault> {
        let shared = Arc::new((request, context));
        for _ in 0..MAX_LOADS {
            let (engine, shared, span) =
                (Arc::clone(self.engine), Arc::clone(&shared), tracing::Span::current());
            let generated = self.loader.run_blocking(move |model| {
                let _entered = span.enter();
                let (request, context) = &*shared;
                // The job may have been cancelled while the model was loaded.
                context.check_cancelled()?;
                exchange::generate(&*engine, model, request, context)
            })?;
            match generated? {
                Generated::AsAccepted => return Ok(None),
                Generated::ResolvedAnew(request) => return Ok(Some(*request)),
                Generated::ModelIsStale => {
                    tracing::info!("checkpoint_exchanged");
                    futures::executor::block_on(self.loader.unload(UNLOAD_TIME))?;
                }
            }
        }
        Err(EngineError::failed("the checkpoint's files change again and again; is a copy under way?").into())
    }

    /// Only the holder of the lease may give a file its final name.
    fn still_holds(&self, claim: &Claim, interrupt: &Interrupt) -> Result<(), Fault> {
        match wait(self.service.queue.renew(&claim.lease)) {
            Ok(Signal::Continue) => Ok(()),
            Ok(signal) => {
                claim.cancel.raise(signal);
                Err(EngineError::Cancelled.into())
            }
            Err(error) => {
                tracing::warn!(%error, "lease_lost");
                interrupt.set(InterruptReason::LeaseLost);
                Err(EngineError::Cancelled.into())
            }
        }
    }

    fn reporter(
        &self,
        claim: &Claim,
        clock: Arc<Mutex<StageClock>>,
    ) -> impl Fn(Stage, u32, u32) + Send + Sync + 'static {
        let (queue, lease) = (Arc::clone(&self.service.queue), claim.lease.clone());
        move |stage, step, steps| {
            clock.lock().unwrap_or_else(PoisonError::into_inner).enter(stage);
            // Not awaited: a lost lease is seen in the claim's signal.
            drop(queue.progress(&lease, Progress { stage, step, steps }));
        }
    }

    fn report(&self, claim: &Claim, clock: &Arc<Mutex<StageClock>>, stage: Stage, step: u32, steps: u32) {
        self.reporter(claim, Arc::clone(clock))(stage, step, steps);
    }
}

/// Adds up the seconds of each stage.
#[derive(Debug, Default)]
struct StageClock {
    now: Option<(Stage, Instant)>,
    past: Vec<(Stage, f64)>,
}

impl StageClock {
    fn enter(&mut self, stage: Stage) {
        if self.now.is_none_or(|(now, _)| now != stage) {
            self.leave();
            self.now = Some((stage, Instant::now()));
        }
    }

    fn stop(&mut self) -> Vec<(Stage, f64)> {
        self.leave();
        std::mem::take(&mut self.past)
    }

    fn leave(&mut self) {
        let Some((stage, since)) = self.now.take() else { return };
        let seconds = since.elapsed().as_secs_f64();
        match self.past.iter_mut().find(|(past, _)| *past == stage) {
            Some((_, sum)) => *sum += seconds,
            None => self.past.push((stage, seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_listed_once_in_the_order_it_came() {
        let mut clock = StageClock::default();
        for stage in [Stage::Encoding, Stage::Denoising, Stage::Denoising, Stage::Decoding, Stage::Denoising]
        {
            clock.enter(stage);
        }
        let stages: Vec<Stage> = clock.stop().into_iter().map(|(stage, _)| stage).collect();
        assert_eq!(stages, [Stage::Encoding, Stage::Denoising, Stage::Decoding]);
    }
}
