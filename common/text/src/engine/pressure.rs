//! The memory, looked at now and then, and what follows from it.

use std::time::{Duration, Instant};

use videosdgx_model::process_resident_bytes;

use super::KvCacheSize;
use super::core::Shared;
use crate::controllers::{MemoryAction, MemoryReading};
use crate::{BLOCK_TOKENS, Decoder, DecoderShape};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the memory from the inference thread.
pub(super) struct Pressure {
    next: Instant,
}

impl Pressure {
    pub(super) fn new() -> Self {
        Self { next: Instant::now() }
    }

    /// Looks if it is time, and gives up what the monitor says.
    pub(super) fn look<M: Decoder>(&mut self, shared: &Shared, model: &mut M) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        shared.telemetry.record_memory(process_resident_bytes());
        let Some(memory) = shared.hooks.memory.memory() else { return };
        let reading = MemoryReading { total: memory.total, available: memory.available };
        let action = shared.lock().memory.record(reading);
        let Some(action) = action else { return };
        shared.telemetry.metrics().count_memory_action(action);
        tracing::warn!(model = shared.config.model, ?action, available = memory.available, "memory_pressure");
        match action {
            MemoryAction::Warn => {}
            MemoryAction::FewerSequences => fewer_sequences(shared),
            MemoryAction::ShorterCaches => {
                fewer_sequences(shared);
                shorter_cache(shared, model, true);
            }
            MemoryAction::UnloadIdle => {
                fewer_sequences(shared);
                shorter_cache(shared, model, true);
                if let Some(unload) = &shared.hooks.unload_idle {
                    unload();
                }
            }
            MemoryAction::Relieved => {
                let mut core = shared.lock();
                let limit = core.full_cache_limit;
                core.scheduler.set_cache_limit(limit);
            }
        }
    }
}

/// Fewer may run, and who is beyond that waits again.
pub(super) fn fewer_sequences(shared: &Shared) {
    let mut core = shared.lock();
    if let Some(decision) = core.batch.relieve_memory() {
        shared.telemetry.metrics().count_decision(decision);
    }
    while core.scheduler.running() > core.batch.size() && core.scheduler.preempt_last() {}
    shared.release(core);
}

/// Drops what is only kept for its content and gives its memory back; `hold`: the cache grows no more until memory is there
/// again.
pub(super) fn shorter_cache<M: Decoder>(shared: &Shared, model: &mut M, hold: bool) {
    let mut core = shared.lock();
    let blocks = core.scheduler.shrink_cache();
    if hold {
        core.scheduler.set_cache_limit(blocks);
    }
    shared.release(core);
    if let Err(error) = model.resize_cache(blocks) {
        tracing::warn!(model = shared.config.model, %error, blocks, "cache_not_shrunk");
    }
}

/// Most blocks of the cache.
pub(super) fn cache_limit(shared: &Shared, shape: &DecoderShape) -> usize {
    let bytes = match shared.config.kv_cache {
        KvCacheSize::Bytes(bytes) => bytes,
        KvCacheSize::Free { share, at_most } => {
            let available = shared.hooks.memory.memory().map_or(at_most, |memory| memory.available);
            at_most.min((available as f64 * share.clamp(0.0, 1.0)) as u64)
        }
    };
    let block = (shape.cache_bytes_per_token * BLOCK_TOKENS as u64).max(1);
    usize::try_from(bytes / block).unwrap_or(usize::MAX).clamp(1, u32::MAX as usize)
}
