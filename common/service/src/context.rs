//! The context of one running job, for its engine.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use videosdgx_api::{JobId, Stage};
use videosdgx_jobs::{CancelSignal, Signal};

use crate::output_file::FileKind;

/// The job must stop now; pass this error on with `?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// Why a running job is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum InterruptReason {
    /// Its owner cancelled it.
    Cancelled = 1,
    /// Another attempt has the lease: the queue refuses writes of this one.
    LeaseLost = 2,
    /// The service is shutting down and its grace time is over: the job goes back to the queue.
    Draining = 3,
}

/// A flag that stops a running job; shared between the service and the engine. The first reason is kept.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    own: Arc<AtomicU8>,
    claim: CancelSignal,
}

impl Interrupt {
    /// An interrupt that the queue raises as well.
    pub(crate) fn of_claim(claim: CancelSignal) -> Self {
        Self { own: Arc::default(), claim }
    }

    /// Requests that the job stops at its next [`GenerateContext::check_cancelled`].
    pub fn set(&self, reason: InterruptReason) {
        let _ = self.own.compare_exchange(0, reason as u8, Ordering::Release, Ordering::Acquire);
    }

    /// Why the job is to stop, if it is.
    #[must_use]
    pub fn reason(&self) -> Option<InterruptReason> {
        let by_queue = match self.claim.get() {
            Signal::Continue => None,
            Signal::Cancel => Some(InterruptReason::Cancelled),
            Signal::Lost => Some(InterruptReason::LeaseLost),
        };
        by_queue.or_else(|| match self.own.load(Ordering::Acquire) {
            1 => Some(InterruptReason::Cancelled),
            2 => Some(InterruptReason::LeaseLost),
            3 => Some(InterruptReason::Draining),
            _ => None,
        })
    }
}

type Reporter = Box<dyn Fn(Stage, u32, u32) + Send + Sync>;

/// Gives an engine the job's paths, its progress reporter and its cancellation signal.
///
/// ```
/// use videosdgx_api::Stage;
/// use videosdgx_service::{GenerateContext, Interrupt};
///
/// let job = "wan21-1".parse().unwrap();
/// let context = GenerateContext::new(job, 1, "out.mp4", "scratch", Interrupt::default(), |stage, step, steps| {
///     println!("{stage:?} {step}/{steps}");
/// });
/// context.progress(Stage::Denoising, 1, 30);
/// assert!(context.check_cancelled().is_ok());
/// ```
pub struct GenerateContext {
    job_id: JobId,
    attempt: u32,
    output_path: PathBuf,
    scratch_dir: PathBuf,
    interrupt: Interrupt,
    report: Reporter,
}

impl GenerateContext {
    /// A context whose progress goes to `report(stage, step, steps)`. Engines can be run with it without a queue, in a
    /// test or from a command line; `scratch_dir` must exist.
    pub fn new(
        job_id: JobId,
        attempt: u32,
        output_path: impl Into<PathBuf>,
        scratch_dir: impl Into<PathBuf>,
        interrupt: Interrupt,
        report: impl Fn(Stage, u32, u32) + Send + Sync + 'static,
    ) -> Self {
        Self {
            job_id,
            attempt,
            output_path: output_path.into(),
            scratch_dir: scratch_dir.into(),
            interrupt,
            report: Box::new(report),
        }
    }

    /// The job, for log lines.
    #[must_use]
    pub fn job_id(&self) -> &JobId {
        &self.job_id
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Reports that `step` of `steps` of `stage` are done. Cheap: it never waits for the disk.
    pub fn progress(&self, stage: Stage, step: u32, steps: u32) {
        (self.report)(stage, step, steps);
    }

    /// Fails when the job must stop. The engine calls it at least at every denoising step and for every decoded chunk.
    ///
    /// # Errors
    /// [`Cancelled`] when the job must stop; whatever was written so far is discarded.
    pub fn check_cancelled(&self) -> Result<(), Cancelled> {
        match self.interrupt.reason() {
            None => Ok(()),
            Some(_) => Err(Cancelled),
        }
    }

    /// Path of the finished file: a temporary name in the outputs folder. The skeleton syncs and renames it.
    #[must_use]
    pub fn output_path(&self) -> &Path {
        &self.output_path
    }

    /// Path of the thumbnail, a WebP file that the engine may write beside its output; see [`crate::Previews`].
    #[must_use]
    pub fn thumbnail_path(&self) -> PathBuf {
        self.output_path.with_extension(FileKind::Thumbnail.extension())
    }

    /// Path of the sheet of sprites, a JPEG file that the engine may write beside its output; see [`crate::Previews`].
    #[must_use]
    pub fn spritesheet_path(&self) -> PathBuf {
        self.output_path.with_extension(FileKind::Spritesheet.extension())
    }

    /// A folder that exists; it is kept from one attempt of this job to the next and removed when the job ends.
    #[must_use]
    pub fn scratch_dir(&self) -> &Path {
        &self.scratch_dir
    }
}

impl fmt::Debug for GenerateContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenerateContext")
            .field("job_id", &self.job_id)
            .field("attempt", &self.attempt)
            .field("output_path", &self.output_path)
            .field("scratch_dir", &self.scratch_dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_to_stop_stays() {
        let interrupt = Interrupt::default();
        let context =
            GenerateContext::new("fake-1".parse().unwrap(), 1, "o", "s", interrupt.clone(), |_, _, _| {});
        assert_eq!(context.check_cancelled(), Ok(()));
        interrupt.set(InterruptReason::LeaseLost);
        interrupt.set(InterruptReason::Cancelled);
        assert_eq!(interrupt.reason(), Some(InterruptReason::LeaseLost));
        assert_eq!(context.check_cancelled(), Err(Cancelled));
    }
}
