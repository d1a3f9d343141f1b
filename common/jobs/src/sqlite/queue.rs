//! The handle of the queue.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures::channel::oneshot;
use videosdgx_api::{JobId, JobStatus};
use videosdgx_threads::spawn_vital;

use super::{
    command::{Command, Context, Reply, Subscription, Waiter},
    owner::OwnerLock,
    reader::{self, Question},
    schema,
    store::Store,
    writer::Writer,
};
use crate::{
    Answer, AttemptOutcome, Claim, Counts, EventStream, Forgotten, JobFailure, JobOutput, JobPage, JobRecord,
    Lease, ListQuery, Principal, Progress, Queue, QueueDriver, QueueError, QueueOptions, Signal,
    StorageError, Submission, Submitted, Totals,
    private::{private_file, private_folder, restrict_companions},
};

/// Where SQLite stores a queue.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// State folder, made if it is missing; holds `jobs.sqlite` and `jobs.lock`.
    pub folder: PathBuf,
    /// Maximum size of the database file in bytes; beyond it submissions fail with `StorageFull`. `None`: only the disk
    /// limits it.
    pub max_database_bytes: Option<u64>,
}

impl SqliteOptions {
    /// Defaults in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), max_database_bytes: None }
    }

    /// Sets the maximum size of the database file in bytes.
    #[must_use]
    pub fn with_max_database_bytes(mut self, bytes: u64) -> Self {
        self.max_database_bytes = Some(bytes);
        self
    }
}

impl QueueDriver for SqliteOptions {
    fn open(self, options: QueueOptions) -> Result<Arc<dyn Queue>, QueueError> {
        Ok(Arc::new(SqliteQueue::open(self, options)?))
    }
}

/// A queue in a SQLite file.
///
/// ```
/// use videosdgx_jobs::{QueueConfig, Queue as _, sqlite::{SqliteOptions, SqliteQueue}, wait};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let queue = SqliteQueue::open(SqliteOptions::new(folder.path()), QueueConfig::default())?;
/// assert_eq!(wait(queue.counts())?.queued(), 0);
/// # Ok::<(), videosdgx_jobs::QueueError>(())
/// ```
/// Dropping it answers all earlier requests, then ends its threads and releases the folder.
#[derive(Debug)]
pub struct SqliteQueue {
    threads: Threads,
    joined: Vec<JoinHandle<()>>,
}

/// The channels to the two threads.
#[derive(Debug, Clone)]
struct Threads {
    commands: Sender<Command>,
    questions: Sender<Question>,
}

impl SqliteQueue {
    /// Locks the state folder, restores the queue and starts its threads.
    ///
    /// # Errors
    /// `Locked` when another process uses the folder, `TooNew`, `StorageFull`, `Storage`.
    #[expect(
        clippy::disallowed_methods,
        reason = "sending must not block a runtime; callers wait for their answers, which bounds the messages"
    )]
    pub fn open(storage: SqliteOptions, options: impl Into<QueueOptions>) -> Result<Self, QueueError> {
        let SqliteOptions { folder, max_database_bytes } = storage;
        let QueueOptions { config, on_forgotten } = options.into();
        let storage = |error: std::io::Error| QueueError::Storage(StorageError::new(error).at(&folder));
        private_folder(&folder).map_err(storage)?;
        let lock = OwnerLock::take(&folder)?;
        let path = folder.join("jobs.sqlite");
        private_file(&path).map_err(storage)?;
        restrict_companions(&path);
        let store = Store::new(schema::open_writer(&path, max_database_bytes)?, &config);
        let reading = schema::open_reader(&path)?;
        let writer = Writer::open(store, config, on_forgotten, lock)?;
        let (commands, commanded) = channel();
        let (questions, asked) = channel();
        let joined = vec![
            spawn_vital("jobs-writer", move || writer.run(&commanded)).map_err(storage)?,
            spawn_vital("jobs-reader", move || reader::run(&reading, &asked)).map_err(storage)?,
        ];
        Ok(Self { threads: Threads { commands, questions }, joined })
    }

    fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(Context<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> Answer<T> {
        self.threads.command(|reply| Command::step(reply, step))
    }
}

impl Drop for SqliteQueue {
    fn drop(&mut self) {
        // Fails only when the threads have already ended.
        drop(self.threads.commands.send(Command::Shutdown));
        drop(self.threads.questions.send(Question::Shutdown));
        for thread in self.joined.drain(..) {
            if thread.join().is_err() {
                tracing::error!("queue_thread_panicked");
            }
        }
    }
}

impl Threads {
    fn command<T: Send + 'static>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Answer<T> {
        let (reply, answered) = oneshot::channel();
        // If the writer has ended, the reply is dropped and the answer is `Closed`.
        drop(self.commands.send(command(reply)));
        answer(answered)
    }

    fn ask<T: Send + 'static>(&self, question: impl FnOnce(Reply<T>) -> Question) -> Answer<T> {
        let (reply, answered) = oneshot::channel();
        drop(self.questions.send(question(reply)));
        answer(answered)
    }

    /// Fills in the queue positions of waiting jobs, which only the state machine knows.
    async fn place(&self, jobs: &mut [JobRecord]) -> Result<(), QueueError> {
        let mut waiting: Vec<&mut JobRecord> =
            jobs.iter_mut().filter(|job| job.status == JobStatus::Queued).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let ids: Vec<JobId> = waiting.iter().map(|job| job.id.clone()).collect();
        let positions = self.command(|reply| {
            Command::step(reply, move |context| {
                Ok(ids.iter().map(|id| context.machine.position(id)).collect::<Vec<u64>>())
            })
        });
        for (job, position) in waiting.iter_mut().zip(positions.await?) {
            job.queue_position = (position > 0).then_some(position);
        }
        Ok(())
    }

    fn find(&self, job: &JobId) -> Answer<Option<JobRecord>> {
        let found = self.ask(|reply| Question::Find(job.clone(), reply));
        let threads = self.clone();
        Box::pin(async move {
            let mut found = found.await?;
            threads.place(found.as_mut_slice()).await?;
            Ok(found)
        })
    }
}

impl Queue for SqliteQueue {
    fn submit(&self, submissions: Vec<Submission>) -> Answer<Vec<Submitted>> {
        self.step(move |context| {
            let answers = context.machine.submit(context.time, &submissions)?;
            for (submission, _) in
                submissions.into_iter().zip(&answers).filter(|(_, answer)| !answer.existing)
            {
                if let Some(job) = context.machine.find(&submission.id) {
                    context.requests.insert(job.number, (submission.body, submission.attachment));
                }
            }
            Ok(answers)
        })
    }

    fn get(&self, principal: &Principal, job: &JobId) -> Answer<JobRecord> {
        let found = self.threads.find(job);
        let principal = principal.clone();
        Box::pin(async move {
            found.await?.filter(|record| record.principal == principal).ok_or(QueueError::NotFound)
        })
    }

    fn list(&self, principal: &Principal, query: ListQuery) -> Answer<JobPage> {
        let page = self.threads.ask(|reply| Question::List(principal.clone(), query, reply));
        let threads = self.threads.clone();
        Box::pin(async move {
            let mut page = page.await?;
            threads.place(&mut page.jobs).await?;
            Ok(page)
        })
    }

    fn cancel(&self, principal: &Principal, job: &JobId) -> Answer<JobStatus> {
        let (principal, job) = (principal.clone(), job.clone());
        self.step(move |context| context.machine.cancel(context.time, &principal, &job))
    }

    fn forget(&self, principal: &Principal, job: &JobId) -> Answer<Forgotten> {
        let (principal, job) = (principal.clone(), job.clone());
        self.step(move |context| context.machine.forget(context.time, &principal, &job))
    }

    fn subscribe(&self, principal: &Principal, job: &JobId, after: u64) -> Answer<EventStream> {
        let (principal, id) = (principal.clone(), job.clone());
        self.threads.command(|reply| Command::Subscribe(Subscription { principal, id, after, reply }))
    }

    fn find(&self, job: &JobId) -> Answer<Option<JobRecord>> {
        self.threads.find(job)
    }

    fn counts(&self) -> Answer<Counts> {
        self.step(|context| {
            let mut counts = context.machine.counts().clone();
            counts.waiting_workers = context.waiting_workers;
            Ok(counts)
        })
    }

    fn totals(&self) -> Answer<Totals> {
        self.step(|context| Ok(context.machine.totals().clone()))
    }

    fn claim(&self, worker: &str, wait_up_to: Duration) -> Answer<Option<Claim>> {
        let now = Instant::now();
        let until = now.checked_add(wait_up_to).unwrap_or(now + Duration::from_secs(3600));
        let worker = worker.to_owned();
        self.threads.command(|reply| Command::Claim(Waiter { worker, until, reply }))
    }

    fn renew(&self, lease: &Lease) -> Answer<Signal> {
        let lease = lease.clone();
        self.step(move |context| context.machine.renew(context.time, &lease))
    }

    fn progress(&self, lease: &Lease, progress: Progress) -> Answer<Signal> {
        let lease = lease.clone();
        self.step(move |context| context.machine.progress(context.time, &lease, progress))
    }

    fn warn(&self, lease: &Lease, warning: String) -> Answer<Signal> {
        let lease = lease.clone();
        self.step(move |context| context.machine.warn(context.time, &lease, warning))
    }

    fn complete(&self, lease: &Lease, output: JobOutput) -> Answer<AttemptOutcome> {
        let lease = lease.clone();
        self.step(move |context| context.machine.complete(context.time, &lease, output))
    }

    fn fail(&self, lease: &Lease, failure: JobFailure, retry: bool) -> Answer<AttemptOutcome> {
        let lease = lease.clone();
        self.step(move |context| context.machine.fail(context.time, &lease, failure, retry))
    }

    fn cancelled(&self, lease: &Lease) -> Answer<AttemptOutcome> {
        let lease = lease.clone();
        self.step(move |context| context.machine.cancelled(context.time, &lease))
    }

    fn release(
        &self,
        lease: &Lease,
        waits_for: Option<JobFailure>,
        delay: Duration,
    ) -> Answer<AttemptOutcome> {
        let lease = lease.clone();
        self.step(move |context| context.machine.release(context.time, &lease, waits_for, delay))
    }

    fn close_claims(&self) {
        drop(self.threads.commands.send(Command::CloseClaims));
    }
}

fn answer<T: Send + 'static>(answered: oneshot::Receiver<Result<T, QueueError>>) -> Answer<T> {
    Box::pin(async move { answered.await.unwrap_or(Err(QueueError::Closed)) })
}
