//! A LoRA's tensors in memory, in the type and on the device of the layers that they change.

use std::collections::HashMap;

use videosdgx_tensor::{
    AdaptableLayers, CheckpointError, LayerDelta, LayerShape, Tensor, TensorError, check_finite,
};

use super::fit::{Fit, LayerKeys, LoraFile};
use super::keys::Role;
use super::names::LayerIndex;
use super::{LoraError, LoraFault, LoraNames};
use crate::PipelineError;

/// The linear layers of a loaded model.
pub(super) struct ModelLayers {
    shapes: HashMap<String, LayerShape>,
    names: LayerIndex,
}

impl ModelLayers {
    pub(super) fn new(layers: &AdaptableLayers, names: &LoraNames) -> Self {
        let shapes: HashMap<_, _> = layers.shapes().into_iter().collect();
        let names = LayerIndex::new(names, shapes.keys().map(String::as_str));
        Self { shapes, names }
    }
}

/// A LoRA whose tensors are in memory.
pub(super) struct LoadedLora {
    changes: Vec<Change>,
    bytes: u64,
}

struct Change {
    layer: String,
    delta: LayerDelta,
    /// What `delta` is multiplied by at scale 1: alpha divided by the rank.
    factor: f64,
}

impl LoadedLora {
    /// Reads the LoRA `name` for the layers of a loaded model.
    ///
    /// # Errors
    /// [`PipelineError::Lora`] when it does not fit or is damaged; [`PipelineError::Tensor`] when memory is exhausted.
    pub(super) fn read(name: &str, file: &LoraFile, model: &ModelLayers) -> Result<Self, PipelineError> {
        let shape = |layer: &str| model.shapes.get(layer).map(|shape| [shape.outputs, shape.inputs]);
        let fit = file.fit(&model.names, shape).map_err(|fault| fault.of(name))?;
        let mut changes = Vec::new();
        for (layer, keys) in &fit.layers {
            // Every layer of a fit is one of the index.
            let Some(&shape) = model.shapes.get(layer) else { continue };
            Reader { name, file, fit: &fit, layer, shape }.read(keys, &mut changes)?;
        }
        if !file.is_unchanged() {
            return Err(LoraFault::Changed.of(name).into());
        }
        let bytes = changes.iter().map(|change| change.delta.bytes()).sum();
        Ok(Self { changes, bytes })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the changes to the layers, `scale` times.
    pub(super) fn apply(&self, layers: &AdaptableLayers, scale: f64) -> Result<(), TensorError> {
        self.changes
            .iter()
            .try_for_each(|change| layers.add(&change.layer, &change.delta, scale * change.factor))
    }
}

/// Reads the tensors of one layer.
struct Reader<'a> {
    name: &'a str,
    file: &'a LoraFile,
    fit: &'a Fit,
    layer: &'a str,
    shape: LayerShape,
}

impl Reader<'_> {
    fn read(&self, keys: &LayerKeys, changes: &mut Vec<Change>) -> Result<(), PipelineError> {
        let mut add = |delta, factor| changes.push(Change { layer: self.layer.to_owned(), delta, factor });
        if let (Some(down), Some(up)) = (keys.get(Role::Down), keys.get(Role::Up)) {
            let (down, up) = (self.tensor(down)?, self.tensor(up)?);
            let rank = down.size().first().copied().unwrap_or(1);
            let factor = match keys.get(Role::Alpha) {
                Some(key) => self.number(key)? / rank as f64,
                None => self.fit.scaling.factor(self.layer, rank),
            };
            add(LayerDelta::LowRank { down, up }, factor);
            if let Some(key) = keys.get(Role::UpBias) {
                add(LayerDelta::Bias(self.tensor(key)?), factor);
            }
        }
        if let Some(key) = keys.get(Role::Difference) {
            add(LayerDelta::Full(self.tensor(key)?), 1.0);
        }
        if let Some(key) = keys.get(Role::BiasDifference) {
            add(LayerDelta::Bias(self.tensor(key)?), 1.0);
        }
        Ok(())
    }

    fn tensor(&self, key: &str) -> Result<Tensor, PipelineError> {
        let LayerShape { kind, device, .. } = self.shape;
        let read = || -> Result<Tensor, TensorError> {
            let tensor = self.file.checkpoint.read(key)?.f_to_kind(kind)?.f_contiguous()?;
            check_finite(&tensor, "a LoRA's tensors")?;
            Ok(tensor.f_to_device(device)?)
        };
        read().map_err(|error| self.error(key, error))
    }

    fn number(&self, key: &str) -> Result<f64, PipelineError> {
        let read = || -> Result<f64, TensorError> {
            let tensor = self.file.checkpoint.read(key)?.f_to_kind(videosdgx_tensor::Kind::Double)?;
            check_finite(&tensor, "a LoRA's alphas")?;
            Ok(f64::try_from(tensor.f_reshape([1])?)?)
        };
        read().map_err(|error| self.error(key, error))
    }

    fn error(&self, key: &str, error: TensorError) -> PipelineError {
        let fault = match error {
            TensorError::NotFinite { .. } => LoraFault::NotFinite { key: key.to_owned() },
            TensorError::Checkpoint(error @ CheckpointError::Invalid { .. }) => error.into(),
            other => return other.into(),
        };
        LoraError { name: self.name.to_owned(), fault }.into()
    }
}
