//! Threads round the state machine.

use std::{
    collections::{HashMap, VecDeque},
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures::{channel::oneshot, future::BoxFuture};

use crate::{
    Evictable, Freed, Load, LoaderConfig, LoaderError, Permit, Snapshot,
    machine::{Action, Event, Machine, Ticket},
    process_resident_bytes,
};

type Failure<L> = LoaderError<<L as Load>::Error>;
/// A use: given the model, or why there is none; answers its caller itself and says whether the model survived.
type Task<L> = Box<dyn FnOnce(Result<&mut <L as Load>::Model, Failure<L>>) -> Outcome + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Sound,
    Panicked,
}

enum Work<L: Load> {
    Load,
    Run(Task<L>),
    Drop,
}

enum Caller<L: Load> {
    Use(Task<L>),
    WarmUp(oneshot::Sender<Result<(), Failure<L>>>),
    Unload(oneshot::Sender<Result<Freed, Failure<L>>>),
}

struct Core<L: Load> {
    machine: Machine<L::Error>,
    callers: HashMap<Ticket, Caller<L>>,
    next_ticket: u64,
    work: VecDeque<Work<L>>,
    closed: bool,
}

struct Shared<L: Load> {
    load: L,
    config: LoaderConfig,
    epoch: Instant,
    core: Mutex<Core<L>>,
    /// The inference thread waits here for work.
    work_came: Condvar,
    /// The clock thread waits here for a new deadline.
    deadline_changed: Condvar,
}

/// Owns a model and the thread it lives on. Clones are handles to the same; when the last is gone, the model is dropped as soon
/// as the use under way has ended.
pub struct ModelLoader<L: Load>(Arc<Handle<L>>);

struct Handle<L: Load>(Arc<Shared<L>>);

impl<L: Load> Clone for ModelLoader<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Load> fmt::Debug for ModelLoader<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelLoader").field("state", &self.snapshot().state).finish_non_exhaustive()
    }
}

impl<L: Load> ModelLoader<L> {
    /// Starts the loader's two small threads; loads nothing.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(load: L, config: LoaderConfig) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            core: Mutex::new(Core {
                machine: Machine::new(config.auto_unload),
                callers: HashMap::new(),
                next_ticket: 0,
                work: VecDeque::new(),
                closed: false,
            }),
            load,
            epoch: Instant::now(),
            work_came: Condvar::new(),
            deadline_changed: Condvar::new(),
            config,
        });
        let handle = Handle(Arc::clone(&shared));
        let weak: Weak<dyn Evictable> = Arc::<Shared<L>>::downgrade(&shared);
        shared.config.budget.register(weak);
        let inference = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(format!("inference-{}", shared.config.name))
            .spawn(move || Inference { shared: inference, model: None }.run())?;
        std::thread::Builder::new().name("loader-clock".to_owned()).spawn(move || shared.run_clock())?;
        Ok(Self(Arc::new(handle)))
    }

    /// Loads the model if needed and runs `work` with it on the inference thread, after the uses that came before. A future that
    /// is dropped before its turn runs nothing; once `work` runs, it runs to its end.
    pub fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut L::Model) -> R + Send + 'static,
    ) -> BoxFuture<'static, Result<R, LoaderError<L::Error>>> {
        let (answer, answered) = oneshot::channel();
        let task: Task<L> = Box::new(move |model| {
            if answer.is_canceled() {
                return Outcome::Sound;
            }
            let (outcome, result) = match model.map(|model| catch_unwind(AssertUnwindSafe(|| work(model)))) {
                Ok(Ok(result)) => (Outcome::Sound, Ok(result)),
                Ok(Err(panic)) => {
                    (Outcome::Panicked, Err(LoaderError::Panicked(panic_message(panic.as_ref()))))
                }
                Err(error) => (Outcome::Sound, Err(error)),
            };
            // Whoever dropped the future in the meantime needs no answer.
            let _ = answer.send(result);
            outcome
        });
        self.0.0.ask(Caller::Use(task), Event::Use);
        Box::pin(async move { answered.await.unwrap_or(Err(LoaderError::Closed)) })
    }

    /// As [`ModelLoader::run`], waiting on a plain thread (a worker's).
    ///
    /// # Errors
    /// When there is no model, or `work` panicked.
    pub fn run_blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut L::Model) -> R + Send + 'static,
    ) -> Result<R, LoaderError<L::Error>> {
        futures::executor::block_on(self.run(work))
    }

    /// Loads the model if needed.
    pub fn warm_up(&self) -> BoxFuture<'static, Result<(), LoaderError<L::Error>>> {
        let (answer, answered) = oneshot::channel();
        self.0.0.ask(Caller::WarmUp(answer), Event::WarmUp);
        Box::pin(async move { answered.await.unwrap_or(Err(LoaderError::Closed)) })
    }

    /// Waits for the uses that were granted, at most `wait_up_to`, then drops the model and says what that freed. Uses that come
    /// later wait and load it again. Errors: `Busy`.
    pub fn unload(&self, wait_up_to: Duration) -> BoxFuture<'static, Result<Freed, LoaderError<L::Error>>> {
        let (answer, answered) = oneshot::channel();
        let deadline = self.0.0.now().saturating_add(wait_up_to);
        self.0.0.ask(Caller::Unload(answer), |ticket| Event::Unload(ticket, deadline));
        Box::pin(async move { answered.await.unwrap_or(Err(LoaderError::Closed)) })
    }

    /// The state now, for `/ready` and `/info`.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<L::Error> {
        self.0.0.lock().machine.snapshot(self.0.0.now())
    }

    /// What it was made from.
    #[must_use]
    pub fn source(&self) -> &L {
        &self.0.0.load
    }

    /// Refuses who waits and who comes, and lets the inference thread end after the use under way.
    pub fn close(&self) {
        self.0.0.close();
    }
}

impl<L: Load> Drop for Handle<L> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<L: Load> Shared<L> {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Core<L>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, caller: Caller<L>, event: impl FnOnce(Ticket) -> Event<L::Error>) {
        let mut core = self.lock();
        let ticket = Ticket(core.next_ticket);
        core.next_ticket += 1;
        core.callers.insert(ticket, caller);
        let refused = self.step(&mut core, event(ticket));
        drop(core);
        answer_refused(refused);
    }

    fn tell(&self, event: Event<L::Error>) {
        let refused = self.step(&mut self.lock(), event);
        answer_refused(refused);
    }

    /// Steps the machine and carries its actions out; uses that were refused are handed back, to be told without the lock.
    fn step(&self, core: &mut Core<L>, event: Event<L::Error>) -> Vec<(Task<L>, Failure<L>)> {
        let mut refused = Vec::new();
        for action in core.machine.step(self.now(), event) {
            match action {
                Action::Load => core.work.push_back(Work::Load),
                Action::Drop => core.work.push_back(Work::Drop),
                Action::Run(ticket) => {
                    if let Some(Caller::Use(task)) = core.callers.remove(&ticket) {
                        core.work.push_back(Work::Run(task));
                    }
                }
                Action::Warm(ticket) => {
                    if let Some(Caller::WarmUp(answer)) = core.callers.remove(&ticket) {
                        let _ = answer.send(Ok(()));
                    }
                }
                Action::Refuse(ticket, error) => match core.callers.remove(&ticket) {
                    Some(Caller::Use(task)) => refused.push((task, error)),
                    Some(Caller::WarmUp(answer)) => {
                        let _ = answer.send(Err(error));
                    }
                    Some(Caller::Unload(_)) | None => {}
                },
                Action::Freed(ticket, freed) => {
                    if let Some(Caller::Unload(answer)) = core.callers.remove(&ticket) {
                        let _ = answer.send(Ok(freed));
                    }
                }
                Action::Busy(ticket, error) => {
                    if let Some(Caller::Unload(answer)) = core.callers.remove(&ticket) {
                        let _ = answer.send(Err(error));
                    }
                }
            }
        }
        self.work_came.notify_one();
        self.deadline_changed.notify_one();
        refused
    }

    fn close(&self) {
        let mut core = self.lock();
        core.closed = true;
        let mut refused = self.step(&mut core, Event::Close);
        // Granted but not begun: these will not be run either.
        for work in std::mem::take(&mut core.work) {
            if let Work::Run(task) = work {
                refused.push((task, LoaderError::Closed));
            }
        }
        drop(core);
        self.work_came.notify_all();
        self.deadline_changed.notify_all();
        answer_refused(refused);
    }

    fn next_work(&self) -> Option<Work<L>> {
        let mut core = self.lock();
        loop {
            if let Some(work) = core.work.pop_front() {
                return Some(work);
            }
            if core.closed {
                return None;
            }
            core = self.work_came.wait(core).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run_clock(&self) {
        let mut core = self.lock();
        while !core.closed {
            let now = self.now();
            match core.machine.next_tick() {
                None => {
                    core = self.deadline_changed.wait(core).unwrap_or_else(PoisonError::into_inner);
                }
                Some(due) if due > now => {
                    let timed = self.deadline_changed.wait_timeout(core, due - now);
                    core = timed.unwrap_or_else(PoisonError::into_inner).0;
                }
                Some(_) => {
                    let refused = self.step(&mut core, Event::Tick);
                    drop(core);
                    answer_refused(refused);
                    core = self.lock();
                }
            }
        }
    }
}

impl<L: Load> Evictable for Shared<L> {
    fn idle_since(&self) -> Option<Instant> {
        Some(self.epoch + self.lock().machine.idle_since()?)
    }

    fn evict(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.ask(Caller::Unload(answer), Event::Evict);
        let freed = futures::executor::block_on(answered);
        matches!(freed, Ok(Ok(Freed { was_loaded: true, .. })))
    }
}

/// The inference thread: the only one that ever sees the model.
struct Inference<L: Load> {
    shared: Arc<Shared<L>>,
    model: Option<(L::Model, Permit)>,
}

impl<L: Load> Inference<L> {
    fn run(mut self) {
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
                // Half-loaded tensors are gone by now; give their pages back as well.
                self.release();
                tracing::warn!(model = name, %error, "model_load_failed");
                Event::LoadFailed(error)
            }
        };
        self.shared.tell(event);
    }

    fn try_load(&self) -> Result<(L::Model, Permit), Failure<L>> {
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
        let outcome = match &mut self.model {
            Some((model, _)) => task(Ok(model)),
            None => task(Err(LoaderError::Panicked("an earlier use of this model panicked".to_owned()))),
        };
        let panicked = outcome == Outcome::Panicked;
        if panicked {
            // Nobody may see a half-changed model: uses granted before the panic are refused.
            self.drop_model();
        }
        self.shared.tell(Event::UseEnded { panicked });
    }

    fn unload(&mut self) {
        let before = process_resident_bytes();
        self.drop_model();
        let resident_bytes = process_resident_bytes();
        let freed_bytes = before.saturating_sub(resident_bytes);
        tracing::info!(model = self.shared.config.name, freed_bytes, resident_bytes, "model_unloaded");
        self.shared.tell(Event::Dropped(Freed { was_loaded: true, freed_bytes, resident_bytes }));
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
        if let Some(release) = &self.shared.config.release {
            release();
        }
    }
}

type Refused<M, E> = (Box<dyn FnOnce(Result<&mut M, LoaderError<E>>) -> Outcome + Send>, LoaderError<E>);

fn answer_refused<M, E: Error>(refused: Vec<Refused<M, E>>) {
    for (task, error) in refused {
        task(Err(error));
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
