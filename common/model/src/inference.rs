//! The inference thread, which owns the model.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use videosdgx_threads::panic_message;

use crate::{Freed, Load, LoadPermit, LoaderError, freed::Held, loader::Shared, machine::Event};

pub(crate) type Failure<L> = LoaderError<<L as Load>::Error>;
/// A use of the model: called with the model, or with the reason why there is none.
pub(crate) type Task<L> = Box<dyn FnOnce(Result<&mut <L as Load>::Model, Failure<L>>) -> Done + Send>;

/// A use that has ended. Its caller is answered after the state machine is updated, so that the caller then finds the model free.
pub(crate) struct Done {
    pub(crate) panicked: bool,
    pub(crate) answer: Box<dyn FnOnce() + Send>,
}

/// Work for the inference thread.
pub(crate) enum Work<L: Load> {
    Load,
    Run(Task<L>),
    Drop,
}

/// The inference thread: the only one that ever sees the model.
pub(crate) struct Inference<L: Load> {
    shared: Arc<Shared<L>>,
    model: Option<(L::Model, LoadPermit)>,
}

impl<L: Load> Inference<L> {
    pub(crate) fn new(shared: Arc<Shared<L>>) -> Self {
        Self { shared, model: None }
    }

    /// Runs until the loader is closed.
    pub(crate) fn run(mut self) {
        while let Some(work) = self.shared.next_work() {
            match work {
                Work::Load => self.load(),
                Work::Run(task) => self.use_model(task),
                Work::Drop => self.unload(),
            }
        }
        if self.model.is_some() {
            self.drop_model();
        }
    }

    fn load(&mut self) {
        let name = &self.shared.config.name;
        let begun = Instant::now();
        tracing::info!(model = name, "model_loading");
        let event = match self.try_load() {
            Ok(loaded) => {
                self.model = Some(loaded);
                tracing::info!(model = name, seconds = begun.elapsed().as_secs_f64(), "model_loaded");
                Event::Loaded
            }
            Err(error) => {
                // The tensors of the failed load have been dropped; return their pages as well.
                self.release();
                tracing::warn!(model = name, %error, "model_load_failed");
                Event::LoadFailed(error)
            }
        };
        self.shared.tell(event);
    }

    fn try_load(&self) -> Result<(L::Model, LoadPermit), Failure<L>> {
        let shared = &*self.shared;
        let guarded =
            |message: Box<dyn std::any::Any + Send>| LoaderError::Panicked(panic_message(message.as_ref()));
        let failed = |error| LoaderError::Load(Arc::new(error));
        let needed = catch_unwind(AssertUnwindSafe(|| shared.load.declared_peak()))
            .map_err(guarded)?
            .map_err(failed)?;
        let mut permit = shared.config.budget.admit(needed).map_err(|shortage| {
            LoaderError::InsufficientMemory { needed: shortage.needed, available: shortage.available }
        })?;
        let model =
            catch_unwind(AssertUnwindSafe(|| shared.load.load())).map_err(guarded)?.map_err(failed)?;
        shared.config.budget.settle(&mut permit);
        Ok((model, permit))
    }

    fn use_model(&mut self, task: Task<L>) {
        let Done { panicked, answer } = match &mut self.model {
            Some((model, _)) => task(Ok(model)),
            None => task(Err(LoaderError::Panicked("an earlier use of this model panicked".to_owned()))),
        };
        if panicked {
            // After a panic the model may be inconsistent: uses that were already granted are refused.
            self.drop_model();
        }
        self.shared.tell(Event::UseEnded { panicked });
        answer();
    }

    fn unload(&mut self) {
        let before = Held::now(self.shared.config.budget.probe());
        self.drop_model();
        let freed = before.freed(Held::now(self.shared.config.budget.probe()));
        let Freed { freed_bytes, resident_bytes, .. } = freed;
        tracing::info!(model = self.shared.config.name, freed_bytes, resident_bytes, "model_unloaded");
        self.shared.tell(Event::Dropped(freed));
    }

    fn drop_model(&mut self) {
        if let Some((model, permit)) = self.model.take() {
            if catch_unwind(AssertUnwindSafe(move || drop(model))).is_err() {
                tracing::error!(model = self.shared.config.name, "model_drop_panicked");
            }
            self.release();
            drop(permit);
        }
    }

    fn release(&self) {
        self.shared.load.model_dropped();
        if let Some(release) = &self.shared.config.release {
            release();
        }
    }
}
