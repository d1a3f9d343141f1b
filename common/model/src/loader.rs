//! The threads that drive the state machine.

use std::{
    collections::{HashMap, VecDeque},
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures::{channel::oneshot, future::BoxFuture};
use videosdgx_threads::{panic_message, spawn_vital};

use crate::{
    Evictable, Freed, Load, LoaderConfig, LoaderError, Snapshot,
    inference::{Done, Failure, Inference, Task, Work},
    machine::{Action, Event, Machine, Ticket},
};

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

/// State shared by the handles and both threads.
pub(crate) struct Shared<L: Load> {
    pub(crate) load: L,
    pub(crate) config: LoaderConfig,
    epoch: Instant,
    core: Mutex<Core<L>>,
    /// Signals work to the inference thread.
    work_came: Condvar,
    /// Signals a new deadline to the clock thread.
    deadline_changed: Condvar,
}

/// Owns a model and its inference thread.
///
/// ```
/// use std::convert::Infallible;
/// use videosdgx_model::{Load, LoaderConfig, ModelLoader};
///
/// struct Weights;
///
/// impl Load for Weights {
///     type Model = Vec<f32>;
///     type Error = Infallible;
///
///     fn declared_peak(&self) -> Result<u64, Infallible> {
///         Ok(12)
///     }
///
///     fn load(&self) -> Result<Vec<f32>, Infallible> {
///         Ok(vec![1.0, 2.0, 3.0])
///     }
/// }
///
/// let loader = ModelLoader::new(Weights, LoaderConfig::new("example")).unwrap();
/// let sum = loader.run_blocking(|weights| weights.iter().sum::<f32>()).unwrap();
/// assert_eq!(sum, 6.0);
/// ```
/// Clones are handles to the same loader; when the last is dropped, the model is
/// dropped as soon as the running use has ended.
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
    /// When a thread cannot be started.
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
        let name = format!("inference-{}", shared.config.name);
        spawn_vital(name, move || Inference::new(inference).run())?;
        spawn_vital("loader-clock", move || shared.run_clock())?;
        Ok(Self(Arc::new(handle)))
    }

    /// Loads the model if needed and runs `work` with it on the inference thread, after earlier uses. Dropping the future before
    /// its turn cancels it; once `work` has started, it runs to its end.
    pub fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut L::Model) -> R + Send + 'static,
    ) -> BoxFuture<'static, Result<R, LoaderError<L::Error>>> {
        let (answer, answered) = oneshot::channel();
        let task: Task<L> = Box::new(move |model| {
            if answer.is_canceled() {
                return Done { panicked: false, answer: Box::new(|| {}) };
            }
            let result = match model.map(|model| catch_unwind(AssertUnwindSafe(|| work(model)))) {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(panic)) => Err((true, LoaderError::Panicked(panic_message(panic.as_ref())))),
                Err(error) => Err((false, error)),
            };
            let panicked = matches!(result, Err((true, _)));
            let result = result.map_err(|(_, error)| error);
            // A caller that dropped the future needs no answer.
            Done { panicked, answer: Box::new(move || drop(answer.send(result))) }
        });
        self.0.0.ask(Caller::Use(task), Event::Use);
        Box::pin(async move { answered.await.unwrap_or(Err(LoaderError::Closed)) })
    }

    /// As [`ModelLoader::run`], blocking a plain thread (a worker's).
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

    /// Waits at most `wait_up_to` for the granted uses, then drops the model and returns how much memory that freed. Later uses
    /// wait and load it again. Errors: `Busy`.
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

    /// The source that the loader was created with.
    #[must_use]
    pub fn source(&self) -> &L {
        &self.0.0.load
    }

    /// Refuses waiting and new uses; the inference thread ends after the running use.
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

    pub(crate) fn tell(&self, event: Event<L::Error>) {
        let refused = self.step(&mut self.lock(), event);
        answer_refused(refused);
    }

    /// Passes an event to the machine and executes its actions; refused uses are returned, to be answered without the lock.
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
        // Granted but not started: these will not run either.
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

    pub(crate) fn next_work(&self) -> Option<Work<L>> {
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

type Refused<M, E> = (Box<dyn FnOnce(Result<&mut M, LoaderError<E>>) -> Done + Send>, LoaderError<E>);

fn answer_refused<M, E: Error>(refused: Vec<Refused<M, E>>) {
    for (task, error) in refused {
        (task(Err(error)).answer)();
    }
}
