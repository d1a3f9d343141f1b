//! State shared by callers, the inference thread and the delivery thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::core::Core;
use super::delivery::Message;
use super::stream::StreamOwner;
use super::{EngineConfig, EngineHooks, Language};
use crate::ErrorCode;
use crate::scheduler::{EndedSequence, SeqId};
use crate::telemetry::StreamingTelemetryCollector;

/// Maximum number of computed steps whose tokens are not delivered yet.
const MAX_UNDELIVERED_STEPS: usize = 4;

/// Shared by all threads. Lock order: a stream's buffer, then the core.
pub(super) struct Shared {
    pub(super) config: EngineConfig,
    pub(super) hooks: EngineHooks,
    pub(super) language: Arc<dyn Language>,
    pub(super) telemetry: StreamingTelemetryCollector,
    epoch: Instant,
    core: Mutex<Core>,
    /// Signals work to the driver thread.
    pub(super) work_available: Condvar,
    pub(super) delivery: Sender<Message>,
    /// The delivery thread is handling messages.
    pub(super) delivering: AtomicBool,
    /// Steps whose tokens were sent to the delivery thread and are not delivered yet.
    undelivered: Mutex<usize>,
    delivered: Condvar,
    /// Streams whose last event is not delivered yet.
    open: AtomicUsize,
    drained: Mutex<Vec<Waker>>,
}

impl Shared {
    pub(super) fn new(
        config: EngineConfig,
        hooks: EngineHooks,
        language: Arc<dyn Language>,
        telemetry: StreamingTelemetryCollector,
        delivery: Sender<Message>,
    ) -> Self {
        let core = Core::new(&config);
        Self {
            config,
            hooks,
            language,
            telemetry,
            epoch: Instant::now(),
            core: Mutex::new(core),
            work_available: Condvar::new(),
            delivery,
            delivering: AtomicBool::new(false),
            undelivered: Mutex::new(0),
            delivered: Condvar::new(),
            open: AtomicUsize::new(0),
            drained: Mutex::default(),
        }
    }

    /// Time on the scheduler's clock.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message to the delivery thread, which runs as long as there are streams.
    pub(super) fn send(&self, message: Message) {
        // Sending fails only after the thread has ended, when no stream is left.
        let _ = self.delivery.send(message);
    }

    /// Updates the metrics and unlocks the core; then wakes tasks that wait for queue space if there is some, and the driver if there
    /// is work or the engine has ended.
    pub(super) fn release(&self, mut core: MutexGuard<'_, Core>) {
        let wakers = core.take_queue_wakers();
        core.update_metrics(&self.telemetry);
        let notify = core.scheduler.has_work() || (core.closed && core.scheduler.len() == 0);
        drop(core);
        if notify {
            self.work_available.notify_one();
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Ends sequences past their deadline or reader timeout and returns them.
    pub(super) fn expire(&self) -> Vec<EndedSequence> {
        let mut core = self.lock();
        core.scheduler.expire(self.now());
        let ended = core.take_ended();
        self.release(core);
        ended
    }

    /// Ends a sequence on request of a caller; `false` when it had ended already.
    pub(super) fn remove(&self, seq: SeqId) -> bool {
        let mut core = self.lock();
        let was_active = core.scheduler.cancel(self.now(), seq);
        core.remove(seq);
        self.release(core);
        was_active
    }

    /// Ends all sequences with an error.
    pub(super) fn fail_all(&self, code: ErrorCode, message: &str) {
        let mut core = self.lock();
        let active = core.scheduler.sequence_ids();
        for seq in &active {
            core.scheduler.cancel(self.now(), *seq);
            core.remove(*seq);
        }
        self.release(core);
        for seq in active {
            self.send(Message::failed(seq, code, message.to_owned()));
        }
    }

    /// Sends a step's tokens. Blocks while the delivery thread is several steps behind (for lack of processor time), because only
    /// delivered tokens can pause a stream whose reader is slow.
    pub(super) fn send_tokens(&self, message: Message) {
        let mut undelivered = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
        while *undelivered >= MAX_UNDELIVERED_STEPS {
            undelivered = self.delivered.wait(undelivered).unwrap_or_else(PoisonError::into_inner);
        }
        *undelivered += 1;
        drop(undelivered);
        self.send(message);
    }

    /// Called by the delivery thread after the tokens of a step.
    pub(super) fn tokens_delivered(&self) {
        *self.undelivered.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.delivered.notify_one();
    }

    pub(super) fn stream_opened(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn stream_closed(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            for waker in std::mem::take(&mut *self.drained.lock().unwrap_or_else(PoisonError::into_inner)) {
                waker.wake();
            }
        }
    }

    /// Whether no stream is open; otherwise `waker` is woken when the last one has closed.
    pub(super) fn is_drained(&self, waker: &Waker) -> bool {
        let mut drained = self.drained.lock().unwrap_or_else(PoisonError::into_inner);
        if self.open.load(Ordering::Acquire) == 0 {
            return true;
        }
        drained.retain(|known| !known.will_wake(waker));
        drained.push(waker.clone());
        false
    }
}

impl StreamOwner for Shared {
    fn reader_progressed(&self, seq: SeqId) {
        self.lock().scheduler.reader_progressed(self.now(), seq);
    }

    fn reader_caught_up(&self, seq: SeqId) {
        let mut core = self.lock();
        let max_running = core.batch.size();
        core.scheduler.reader_ready(seq, max_running);
        self.release(core);
    }

    fn reader_dropped(&self, seq: SeqId) {
        self.remove(seq);
        self.send(Message::ReaderDropped(seq));
    }
}
