//! The memory, looked at now and then, and what follows from it.

use std::time::Instant;

use videosdgx_model::process_resident_bytes;

use super::KvCacheSize;
use super::shared::Shared;
use crate::controllers::{MemoryAction, MemoryPressure, MemoryReading};
use videosdgx_decoder_api::{BLOCK_TOKENS, Decoder, DecoderShape};

/// Looks at the memory from the inference thread if it is time, and gives up what the monitor says.
pub(super) fn look<M: Decoder>(shared: &Shared, model: &mut M) {
    let now = Instant::now();
    {
        let mut core = shared.lock();
        if core.next_look.is_some_and(|next| now < next) {
            return;
        }
        core.next_look = Some(now + shared.config.memory_pressure.interval);
    }
    shared.telemetry.record_memory(process_resident_bytes());
    let Some(memory) = shared.hooks.memory.memory() else { return };
    let reading = MemoryReading { total: memory.total, available: memory.available };
    let action = {
        let mut core = shared.lock();
        let action = core.memory.record(reading);
        let short = core.memory.pressure() >= MemoryPressure::High;
        core.batch.hold(short);
        action
    };
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

/// Fewer may run, and who is beyond that waits again.
pub(super) fn fewer_sequences(shared: &Shared) {
    let mut core = shared.lock();
    if let Some(decision) = core.batch.relieve_memory() {
        shared.telemetry.metrics().count_decision(decision);
    }
    while core.scheduler.running() > core.batch.size() && core.scheduler.preempt_last() {}
    shared.release(core);
}

/// Drops what is only kept for its content and gives its memory back. With `hold` (only between steps) sequences may be put back
/// for it, and the cache then grows to half of what it was
/// at most until memory is there again, or to what the largest live sequence may need.
pub(super) fn shorter_cache<M: Decoder>(shared: &Shared, model: &mut M, hold: bool) {
    let mut core = shared.lock();
    let before = core.scheduler.cache_usage().capacity;
    let blocks = core.scheduler.shrink_cache(hold);
    if hold {
        let limit = (before / 2).max(core.scheduler.largest_need()).min(core.full_cache_limit);
        core.scheduler.set_cache_limit(limit);
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
