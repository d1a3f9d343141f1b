//! Changes of linear layers that are computed beside their weights: LoRA (Hu et al. 2021, arXiv 2106.09685).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor};

use super::tensor_bytes;
use crate::TensorError;

/// What an adapter adds to the output of a linear layer `[…, in]` → `[…, out]`, before it is scaled.
#[derive(Debug)]
pub enum LayerDelta {
    /// `x · downᵀ · upᵀ`.
    LowRank {
        /// `[rank, in]`.
        down: Tensor,
        /// `[out, rank]`.
        up: Tensor,
    },
    /// `x · differenceᵀ`, `[out, in]`.
    Full(Tensor),
    /// A bias `[out]`.
    Bias(Tensor),
}

impl LayerDelta {
    /// Bytes of its tensors.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::LowRank { down, up } => tensor_bytes(down) + tensor_bytes(up),
            Self::Full(tensor) | Self::Bias(tensor) => tensor_bytes(tensor),
        }
    }

    fn shared(&self) -> Self {
        match self {
            Self::LowRank { down, up } => {
                Self::LowRank { down: down.shallow_clone(), up: up.shallow_clone() }
            }
            Self::Full(difference) => Self::Full(difference.shallow_clone()),
            Self::Bias(bias) => Self::Bias(bias.shallow_clone()),
        }
    }

    /// Why it does not fit a layer.
    fn misfit(&self, shape: LayerShape) -> Option<String> {
        let LayerShape { inputs, outputs, kind, device } = shape;
        let (fits, tensors) = match self {
            Self::LowRank { down, up } => {
                let rank = down.size().first().copied().unwrap_or(0);
                (down.size() == [rank, inputs] && up.size() == [outputs, rank], vec![down, up])
            }
            Self::Full(difference) => (difference.size() == [outputs, inputs], vec![difference]),
            Self::Bias(bias) => (bias.size() == [outputs], vec![bias]),
        };
        if !fits {
            let shapes: Vec<_> = tensors.iter().map(|tensor| tensor.size()).collect();
            return Some(format!("{shapes:?} does not fit a layer of {inputs} inputs and {outputs} outputs"));
        }
        let is_foreign = |tensor: &&Tensor| tensor.kind() != kind || tensor.device() != device;
        tensors.iter().any(is_foreign).then(|| format!("is not {kind:?} on {device:?}"))
    }
}

/// Sizes of a linear layer, and where and in which type it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// Size of an input.
    pub inputs: i64,
    /// Size of an output.
    pub outputs: i64,
    /// Compute type.
    pub kind: Kind,
    /// Device.
    pub device: Device,
}

/// The changes that a linear layer applies now; shared between the layer and [`AdaptableLayers`].
#[derive(Default)]
pub(super) struct AdapterSlot(Mutex<Vec<Applied>>);

struct Applied {
    delta: LayerDelta,
    scale: f64,
    /// First output that it changes, and how many.
    outputs: (i64, i64),
}

impl AdapterSlot {
    fn applied(&self) -> MutexGuard<'_, Vec<Applied>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds every change to `output` `[…, out]`, which the layer has just computed from `input` `[…, in]`.
    pub(super) fn add_to(&self, output: &Tensor, input: &Tensor) {
        let applied = self.applied();
        if applied.is_empty() {
            return;
        }
        let width = |tensor: &Tensor| tensor.size().last().copied().unwrap_or(1);
        let flat_output = output.view([-1, width(output)]);
        let flat_input = input.reshape([-1, width(input)]);
        for Applied { delta, scale, outputs: (first, count) } in &*applied {
            let mut target = flat_output.narrow(1, *first, *count);
            let _ = match delta {
                LayerDelta::LowRank { down, up } => {
                    let hidden = flat_input.matmul(&down.tr()).g_mul_scalar_(*scale);
                    target.addmm_(&hidden, &up.tr())
                }
                LayerDelta::Full(difference) => {
                    target.addmm_(&flat_input.g_mul_scalar(*scale), &difference.tr())
                }
                LayerDelta::Bias(bias) => target.g_add_(&bias.g_mul_scalar(*scale)),
            };
        }
    }
}

/// One layer that can be changed; of layers that were loaded as one, a part of it.
#[derive(Clone)]
struct Layer {
    slot: Arc<AdapterSlot>,
    first_output: i64,
    shape: LayerShape,
}

/// The linear layers of a model that adapters can change, by the names of their weights (without `.weight`).
///
/// ```no_run
/// # fn main() -> Result<(), videosdgx_tensor::TensorError> {
/// use std::sync::Arc;
/// use videosdgx_tensor::{Checkpoint, Device, Kind, LayerDelta, Quantization, Tensor, Weights};
///
/// let checkpoint = Arc::new(Checkpoint::open("models/wan2.1/transformer")?);
/// let weights = Weights::new(checkpoint, Device::Cpu, Kind::Float, Quantization::Nf4).adaptable();
/// let query = weights.linear("blocks.0.attn1.to_q", 1536, 1536, true)?;
/// let layers = weights.adaptable_layers();
/// let options = (Kind::Float, Device::Cpu);
/// let delta =
///     LayerDelta::LowRank { down: Tensor::zeros([8, 1536], options), up: Tensor::zeros([1536, 8], options) };
/// layers.add("blocks.0.attn1.to_q", &delta, 1.0)?;
/// let _changed = query.forward(&Tensor::zeros([1, 1536], options));
/// layers.clear();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct AdaptableLayers(Arc<Mutex<BTreeMap<String, Layer>>>);

impl AdaptableLayers {
    fn layers(&self) -> MutexGuard<'_, BTreeMap<String, Layer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the layers that were loaded as one, whose changes go to `slot`: names and numbers of outputs.
    pub(crate) fn register(&self, parts: impl Iterator<Item = (String, i64)>, shape: LayerShape) -> Adapters {
        let slot = Arc::<AdapterSlot>::default();
        let mut first_output = 0;
        let mut layers = self.layers();
        for (name, outputs) in parts {
            let shape = LayerShape { outputs, ..shape };
            layers.insert(name, Layer { slot: Arc::clone(&slot), first_output, shape });
            first_output += outputs;
        }
        Adapters(Some(slot))
    }

    /// Names and shapes of all layers, sorted by name.
    #[must_use]
    pub fn shapes(&self) -> Vec<(String, LayerShape)> {
        self.layers().iter().map(|(name, layer)| (name.clone(), layer.shape)).collect()
    }

    /// Changes the layer `name` by `scale` times `delta`, in addition to the changes before, until
    /// [`AdaptableLayers::clear`]. The tensors are shared, not copied.
    ///
    /// # Errors
    /// [`TensorError::Adapter`] naming the layer when there is none of that name or `delta` does not fit it.
    pub fn add(&self, name: &str, delta: &LayerDelta, scale: f64) -> Result<(), TensorError> {
        let error = |reason: String| TensorError::Adapter { layer: name.to_owned(), reason };
        let layers = self.layers();
        let layer = layers.get(name).ok_or_else(|| error("the model has no such layer".to_owned()))?;
        if let Some(reason) = delta.misfit(layer.shape) {
            return Err(error(reason));
        }
        let outputs = (layer.first_output, layer.shape.outputs);
        layer.slot.applied().push(Applied { delta: delta.shared(), scale, outputs });
        Ok(())
    }

    /// Removes every change: the layers compute what they did when they were loaded.
    pub fn clear(&self) {
        for layer in self.layers().values() {
            layer.slot.applied().clear();
        }
    }
}

/// The changes of a layer, if it is adaptable.
#[derive(Clone, Default)]
pub(crate) struct Adapters(Option<Arc<AdapterSlot>>);

impl Adapters {
    pub(super) fn add_to(&self, output: &Tensor, input: &Tensor) {
        if let Some(slot) = &self.0 {
            slot.add_to(output, input);
        }
    }
}
