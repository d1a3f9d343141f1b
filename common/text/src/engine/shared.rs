//! What callers, the inference thread and the delivery thread share.

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
use crate::scheduler::{Ended, SeqId};
use crate::telemetry::StreamingTelemetryCollector;

/// So many steps may be computed before the tokens of the first are delivered.
const STEPS_AHEAD: usize = 4;

/// Shared by all threads. Locks are taken in this order: a stream's buffer, then the core.
pub(super) struct Shared {
    pub(super) config: EngineConfig,
    pub(super) hooks: EngineHooks,
    pub(super) language: Arc<dyn Language>,
    pub(super) telemetry: StreamingTelemetryCollector,
    epoch: Instant,
    core: Mutex<Core>,
    /// The driver waits here for work.
    pub(super) work_came: Condvar,
    pub(super) delivery: Sender<Message>,
    /// The delivery thread is at work.
    pub(super) delivering: AtomicBool,
    /// Steps whose tokens were sent to the delivery thread and not handed on yet.
    undelivered: Mutex<usize>,
    delivered: Condvar,
    /// Streams whose last event was not handed on yet.
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
            work_came: Condvar::new(),
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

    /// To the delivery thread, which states as long as there are streams.
    pub(super) fn send(&self, message: Message) {
        // It is gone only when no stream is left to be told.
        let _ = self.delivery.send(message);
    }

    /// Lets go of the core, then wakes who waits for room, if there is some, and the driver, if there is work (or an end).
    pub(super) fn release(&self, mut core: MutexGuard<'_, Core>) {
        let room = if core.scheduler.has_room() { std::mem::take(&mut core.room) } else { Vec::new() };
        core.show(&self.telemetry);
        let notify = core.scheduler.has_work() || (core.closed && core.scheduler.len() == 0);
        drop(core);
        if notify {
            self.work_came.notify_one();
        }
        for waker in room {
            waker.wake();
        }
    }

    /// Ends what is past its deadline; gives who was ended.
    pub(super) fn expire(&self) -> Vec<Ended> {
        let mut core = self.lock();
        core.scheduler.expire(self.now());
        let ended = core.take_ended();
        self.release(core);
        ended
    }

    /// Ends a sequence from outside; whether it was alive.
    pub(super) fn remove(&self, seq: SeqId) -> bool {
        let mut core = self.lock();
        let was_alive = core.scheduler.cancel(self.now(), seq);
        core.forget(seq);
        self.release(core);
        was_alive
    }

    /// Ends all sequences with an error.
    pub(super) fn fail_all(&self, code: ErrorCode, message: &str) {
        let mut core = self.lock();
        let live = core.scheduler.sequence_ids();
        for seq in &live {
            core.scheduler.cancel(self.now(), *seq);
            core.forget(*seq);
        }
        self.release(core);
        for seq in live {
            self.send(Message::failed(seq, code, message.to_owned()));
        }
    }

    /// Sends a step's tokens; waits when the delivery thread is many steps behind (its processor was taken from it), since only
    /// what has been delivered can pause a stream whose reader is slow.
    pub(super) fn send_tokens(&self, message: Message) {
        let mut undelivered = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
        while *undelivered >= STEPS_AHEAD {
            undelivered = self.delivered.wait(undelivered).unwrap_or_else(PoisonError::into_inner);
        }
        *undelivered += 1;
        drop(undelivered);
        self.send(message);
    }

    /// The tokens of a step were handed on.
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

    /// Whether no stream is open; else `waker` is woken when the last has closed.
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
    fn reader_reads(&self, seq: SeqId) {
        self.lock().scheduler.reader_reads(self.now(), seq);
    }

    fn reader_caught_up(&self, seq: SeqId) {
        let mut core = self.lock();
        let max_running = core.batch.size();
        core.scheduler.reader_ready(seq, max_running);
        self.release(core);
    }

    fn reader_left(&self, seq: SeqId) {
        self.remove(seq);
        self.send(Message::Left(seq));
    }
}
