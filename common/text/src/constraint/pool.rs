//! Threads that compile constraints, so that a costly one delays neither requests nor the engine.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use super::{COMPILE_LIMIT, CompileBudget, ConstraintCompiler, ConstraintError, PreparedConstraint};
use crate::Constraint;

/// Configuration of a [`CompilePool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompilePoolConfig {
    /// Number of threads; default: a quarter of the processors, 2 to 4.
    pub threads: usize,
    /// Maximum number of waiting constraints; default: 64.
    pub queue: usize,
    /// Maximum number of waiting constraints of one principal; default: 16.
    pub share: usize,
    /// Maximum time in the queue; default: 10 s.
    pub wait: Duration,
    /// Time limit of one compilation; default: [`COMPILE_LIMIT`].
    pub limit: Duration,
}

impl Default for CompilePoolConfig {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            threads: (processors / 4).clamp(2, 4),
            queue: 64,
            share: 16,
            wait: Duration::from_secs(10),
            limit: COMPILE_LIMIT,
        }
    }
}

/// Why a constraint was not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Too many constraints are waiting, or this one has waited too long.
    #[error("{waiting} output constraints are waiting to be compiled, try again later")]
    Busy {
        /// Number of waiting constraints.
        waiting: usize,
    },
    /// The principal has too many constraints waiting.
    #[error("{share} output constraints of yours are waiting to be compiled, try again later")]
    ShareUsed {
        /// Maximum number of waiting constraints of one principal.
        share: usize,
    },
    /// The constraint is invalid or too complex.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

/// Compiles constraints on a few threads, with a bounded queue. Of several principals, the one with the fewest running compilations
/// is next; one principal never uses all threads. Clones are handles to the same threads, which end with the last one.
#[derive(Clone)]
pub struct CompilePool(Arc<Handle>);

struct Handle(Arc<Shared>);

struct Shared {
    compiler: ConstraintCompiler,
    config: CompilePoolConfig,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// In order of arrival.
    waiting: VecDeque<Job>,
    /// Number of running compilations by principal.
    running: HashMap<String, usize>,
    closed: bool,
}

struct Job {
    principal: String,
    constraint: Constraint,
    budget: Arc<Mutex<Option<CompileBudget>>>,
    arrived: Instant,
    reply: oneshot::Sender<Result<PreparedConstraint, CompileError>>,
}

/// A compilation that waits or runs. Dropping it ends the compilation.
#[must_use = "a compilation that nobody waits for is cancelled"]
pub struct Compiling {
    reply: oneshot::Receiver<Result<PreparedConstraint, CompileError>>,
    /// Set when it runs.
    budget: Arc<Mutex<Option<CompileBudget>>>,
}

impl std::fmt::Debug for CompilePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompilePool").field("config", &self.0.0.config).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Compiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiling").finish_non_exhaustive()
    }
}

impl CompilePool {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be spawned.
    pub fn start(compiler: ConstraintCompiler, config: CompilePoolConfig) -> std::io::Result<Self> {
        let shared = Shared { compiler, config, state: Mutex::default(), changed: Condvar::new() };
        let pool = Self(Arc::new(Handle(Arc::new(shared))));
        for number in 0..config.threads.max(1) {
            let shared = Arc::clone(&pool.0.0);
            std::thread::Builder::new()
                .name(format!("constraint-{number}"))
                // Schemas are read recursively.
                .stack_size(16 << 20)
                .spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// Queues a constraint; one that has been compiled already is returned at once.
    ///
    /// # Errors
    /// When the queue is full, or the constraint is larger than any may be.
    pub fn compile(&self, principal: &str, constraint: &Constraint) -> Result<Compiling, CompileError> {
        let shared = &self.0.0;
        let (sender, reply) = oneshot::channel();
        let budget = Arc::default();
        if let Some(prepared) = shared.compiler.prepared(constraint)? {
            // The receiver is there, so sending succeeds.
            let _ = sender.send(Ok(prepared));
            return Ok(Compiling { reply, budget });
        }
        let mut state = shared.lock();
        state.waiting.retain(|job| !job.reply.is_canceled());
        let CompilePoolConfig { queue, share, .. } = shared.config;
        if state.waiting.iter().filter(|job| job.principal == principal).count() >= share {
            return Err(CompileError::ShareUsed { share });
        }
        if state.waiting.len() >= queue {
            return Err(CompileError::Busy { waiting: state.waiting.len() });
        }
        state.waiting.push_back(Job {
            principal: principal.to_owned(),
            constraint: constraint.clone(),
            budget: Arc::clone(&budget),
            arrived: Instant::now(),
            reply: sender,
        });
        drop(state);
        shared.changed.notify_one();
        Ok(Compiling { reply, budget })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            let budget = CompileBudget::new(self.config.limit);
            *job.budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(budget.clone());
            let outcome = if job.reply.is_canceled() {
                Err(ConstraintError::Cancelled)
            } else {
                let work = AssertUnwindSafe(|| self.compiler.prepare(&job.constraint, &budget));
                catch_unwind(work).unwrap_or_else(|_| {
                    Err(ConstraintError::Invalid("the constraint cannot be compiled".to_owned()))
                })
            };
            let mut state = self.lock();
            if let Some(count) = state.running.get_mut(&job.principal) {
                *count -= 1;
                if *count == 0 {
                    state.running.remove(&job.principal);
                }
            }
            drop(state);
            // A job that was passed over because of its principal's share may run now.
            self.changed.notify_one();
            // Fails when the caller has left.
            let _ = job.reply.send(outcome.map_err(CompileError::from));
        }
    }

    /// Waits for a job; `None` when the pool is closed.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            state.drop_old(self.config.wait);
            if let Some(job) = state.take(self.config.threads) {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    /// Refuses jobs that have waited too long, and forgets those that nobody waits for.
    fn drop_old(&mut self, limit: Duration) {
        self.waiting.retain(|job| !job.reply.is_canceled());
        while self.waiting.front().is_some_and(|job| job.arrived.elapsed() > limit) {
            let waiting = self.waiting.len();
            if let Some(job) = self.waiting.pop_front() {
                // Fails when the caller has left.
                let _ = job.reply.send(Err(CompileError::Busy { waiting }));
            }
        }
    }

    /// The oldest job of the principal with the fewest running ones.
    fn take(&mut self, threads: usize) -> Option<Job> {
        let most = threads.saturating_sub(1).max(1);
        let running = |job: &Job| self.running.get(&job.principal).copied().unwrap_or(0);
        let (index, _) = self
            .waiting
            .iter()
            .enumerate()
            .map(|(index, job)| (index, running(job)))
            .filter(|(_, running)| *running < most)
            .min_by_key(|(index, running)| (*running, *index))?;
        let job = self.waiting.remove(index)?;
        *self.running.entry(job.principal.clone()).or_default() += 1;
        Some(job)
    }
}

impl Future for Compiling {
    type Output = Result<PreparedConstraint, CompileError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = std::task::ready!(Pin::new(&mut self.reply).poll(context));
        Poll::Ready(reply.unwrap_or(Err(CompileError::Constraint(ConstraintError::Cancelled))))
    }
}

impl Drop for Compiling {
    fn drop(&mut self) {
        // Before the budget is looked at, so that a job that starts just now sees that nobody waits.
        self.reply.close();
        if let Some(budget) = &*self.budget.lock().unwrap_or_else(PoisonError::into_inner) {
            budget.cancel();
        }
    }
}
