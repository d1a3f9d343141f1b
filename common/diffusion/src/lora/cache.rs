//! LoRAs in memory between jobs.

use std::collections::HashSet;

use videosdgx_tensor::{AdaptableLayers, Kind};

use super::tensors::{LoadedLora, ModelLayers};
use super::{ChosenLora, LoraNames};
use crate::PipelineError;

/// The LoRAs of the last jobs, the most recently used last.
pub(super) struct LoraCache {
    loaded: Vec<Entry>,
    /// Bytes up to which LoRAs that a job does not use are kept.
    budget: u64,
    /// Compute type of the layers.
    kind: Kind,
}

struct Entry {
    name: String,
    /// Of the file that it was read from.
    fingerprint: String,
    lora: LoadedLora,
}

impl LoraCache {
    pub(super) fn new(budget: u64, kind: Kind) -> Self {
        Self { loaded: Vec::new(), budget, kind }
    }

    pub(super) fn set_budget(&mut self, bytes: u64) {
        self.budget = bytes;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.loaded.iter().map(|entry| entry.lora.bytes()).sum()
    }

    /// Changes `layers` by the LoRAs in `chosen`, reading those that are not in memory or whose file was exchanged.
    ///
    /// # Errors
    /// As [`LoadedLora::read`]; some changes may then have been applied.
    pub(super) fn apply(
        &mut self,
        chosen: &[ChosenLora],
        layers: &AdaptableLayers,
        names: &LoraNames,
    ) -> Result<(), PipelineError> {
        // Files that were exchanged are never used again.
        self.loaded.retain(|entry| {
            chosen.iter().all(|lora| lora.name() != entry.name || lora.fingerprint() == entry.fingerprint)
        });
        let mut model = None;
        for lora in chosen {
            let known = self.loaded.iter().position(|entry| entry.name == lora.name());
            let entry = match known {
                Some(index) => self.loaded.remove(index),
                None => {
                    self.make_room(lora.bytes_in(self.kind), chosen);
                    let model = model.get_or_insert_with(|| ModelLayers::new(layers, names));
                    let loaded = LoadedLora::read(lora.name(), lora.file(), model)?;
                    tracing::info!(lora = lora.name(), mb = loaded.bytes() / 1_000_000, "lora_loaded");
                    Entry {
                        name: lora.name().to_owned(),
                        fingerprint: lora.fingerprint().to_owned(),
                        lora: loaded,
                    }
                }
            };
            entry.lora.apply(layers, lora.scale())?;
            self.loaded.push(entry);
        }
        self.make_room(0, chosen);
        Ok(())
    }

    /// Frees LoRAs that this job does not use, the least recently used first, until `needed` more bytes fit.
    fn make_room(&mut self, needed: u64, chosen: &[ChosenLora]) {
        let used: HashSet<&str> = chosen.iter().map(ChosenLora::name).collect();
        while self.bytes().saturating_add(needed) > self.budget {
            let Some(index) = self.loaded.iter().position(|entry| !used.contains(entry.name.as_str())) else {
                break;
            };
            let freed = self.loaded.remove(index);
            tracing::info!(lora = freed.name, "lora_freed");
        }
    }
}
