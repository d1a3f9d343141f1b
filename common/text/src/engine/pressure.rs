//! Periodic memory checks and the reactions to memory pressure.

use std::time::Instant;

use videosdgx_model::process_resident_bytes;

use super::KvCacheSize;
use super::shared::Shared;
use crate::controllers::{MemoryAction, MemoryPressure, MemoryReading};
use videosdgx_decoder_api::{BLOCK_TOKENS, Decoder, DecoderShape};

/// Reads the memory if the check interval has passed and executes the monitor's action. Runs on the inference thread.
pub(super) fn check_memory<M: Decoder>(shared: &Shared, model: &mut M) {
    let now = Instant::now();
    {
        let mut core = shared.lock();
        if core.next_memory_check.is_some_and(|next| now < next) {
            return;
        }
        core.next_memory_check = Some(now + shared.config.memory_pressure.interval);
    }
    shared.telemetry.record_memory(process_resident_bytes());
    let Some(memory) = shared.hooks.memory.memory() else { return };
    let reading = MemoryReading { total: memory.total, available: memory.available };
    let action = {
        let mut core = shared.lock();
        let action = core.memory.record(reading);
        let short = core.memory.pressure() >= MemoryPressure::High;
        core.batch.set_growth_paused(short);
        action
    };
    let Some(action) = action else { return };
    shared.telemetry.metrics().count_memory_action(action);
    tracing::warn!(model = shared.config.model, ?action, available = memory.available, "memory_pressure");
    match action {
        MemoryAction::Warn => {}
        MemoryAction::FewerSequences => fewer_sequences(shared),
        MemoryAction::ShrinkCache => {
            fewer_sequences(shared);
            shrink_cache(shared, model, true);
        }
        MemoryAction::UnloadIdle => {
            fewer_sequences(shared);
            shrink_cache(shared, model, true);
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

/// Lowers the number of sequences that may run and preempts those beyond it.
pub(super) fn fewer_sequences(shared: &Shared) {
    let mut core = shared.lock();
    if let Some(decision) = core.batch.relieve_memory() {
        shared.telemetry.metrics().count_decision(decision);
    }
    while core.scheduler.running() > core.batch.size() && core.scheduler.preempt_last() {}
    shared.release(core);
}

/// Drops cached prefixes and frees their memory. With `limit_growth` (only between steps) it may also preempt sequences, and it
/// limits the cache to half of its previous size (or the need of the largest active sequence) until the pressure is over.
pub(super) fn shrink_cache<M: Decoder>(shared: &Shared, model: &mut M, limit_growth: bool) {
    let mut core = shared.lock();
    let before = core.scheduler.cache_usage().capacity;
    let blocks = core.scheduler.shrink_cache(limit_growth);
    if limit_growth {
        let limit = (before / 2).max(core.scheduler.largest_need()).min(core.full_cache_limit);
        core.scheduler.set_cache_limit(limit);
    }
    shared.release(core);
    if let Err(error) = model.resize_cache(blocks) {
        tracing::warn!(model = shared.config.model, %error, blocks, "cache_not_shrunk");
    }
}

/// Maximum number of cache blocks.
pub(super) fn cache_limit(shared: &Shared, shape: &DecoderShape) -> usize {
    let bytes = match shared.config.kv_cache {
        KvCacheSize::Bytes(bytes) => bytes,
        KvCacheSize::ShareOfFree { share, max_bytes } => {
            let available = shared.hooks.memory.memory().map_or(max_bytes, |memory| memory.available);
            max_bytes.min((available as f64 * share.clamp(0.0, 1.0)) as u64)
        }
    };
    let block = (shape.cache_bytes_per_token * BLOCK_TOKENS as u64).max(1);
    usize::try_from(bytes / block).unwrap_or(usize::MAX).clamp(1, u32::MAX as usize)
}
