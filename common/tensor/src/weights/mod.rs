//! Loads the parts of a model by name, on a device and in an element type.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::linear::{Adapters, tensor_bytes};
use crate::quantized::{self, HostWeight};
use crate::weight_cache::WeightCache;
use crate::{
    AdaptableLayers, Checkpoint, CheckpointError, Embedding, LayerShape, Linear, Quantization, StoredDtype,
    TensorError,
};

/// A view of a [`Checkpoint`] below a name prefix. Tensors are loaded to its device in its compute type.
///
/// ```no_run
/// # fn main() -> Result<(), videosdgx_tensor::TensorError> {
/// use std::sync::Arc;
/// use videosdgx_tensor::{Checkpoint, Device, Kind, Quantization, Weights};
///
/// let checkpoint = Arc::new(Checkpoint::open("models/wan2.1/transformer")?);
/// let weights = Weights::new(checkpoint, Device::Cpu, Kind::Float, Quantization::None);
/// let block = weights.at("blocks").at(0);
/// let table = block.tensor("scale_shift_table", &[1, 6, 1536])?;
/// let ffn = block.linear("ffn.net.2", 8960, 1536, true)?;
/// assert!(!weights.unused().contains(&"blocks.0.scale_shift_table".to_owned()));
/// # let _ = (table, ffn);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Weights {
    checkpoint: Arc<Checkpoint>,
    prefix: String,
    device: Device,
    kind: Kind,
    quantization: Quantization,
    exact: bool,
    cache: Option<Arc<WeightCache>>,
    adaptable: Option<AdaptableLayers>,
    record: Arc<Mutex<LoadRecord>>,
}

#[derive(Default)]
struct LoadRecord {
    used: HashSet<String>,
    resident: u64,
}

impl Weights {
    /// A view of the whole checkpoint; [`Weights::linear`] quantises as `quantization` says.
    pub fn new(checkpoint: Arc<Checkpoint>, device: Device, kind: Kind, quantization: Quantization) -> Self {
        Self {
            checkpoint,
            prefix: String::new(),
            device,
            kind,
            quantization,
            exact: false,
            cache: None,
            adaptable: None,
            record: Arc::default(),
        }
    }

    /// The view below `name`: `weights.at("blocks").at(0).tensor("scale_shift_table", …)`.
    pub fn at(&self, name: impl Display) -> Self {
        Self { prefix: self.name(name), ..self.clone() }
    }

    /// The same view without quantisation: for embeddings and output layers.
    pub fn unquantized(&self) -> Self {
        Self { quantization: Quantization::None, ..self.clone() }
    }

    /// The same view with another compute type.
    pub fn with_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The same view for exact computation: packed weights are widened to the compute type while loading, nothing is
    /// quantised, and activations are not rounded to integers. Needs the memory and time of unquantised weights; for
    /// comparison with a reference.
    pub fn exact(&self) -> Self {
        Self { exact: true, quantization: Quantization::None, ..self.clone() }
    }

    /// The same view with a cache of quantised weights in `folder`: weights are read from the cache file if there is
    /// one, else the file is written while loading and completed by [`Weights::finish_weight_cache`]. It is rewritten
    /// when a file of the checkpoint changes. Has no effect without quantisation or when the disk is full.
    pub fn with_weight_cache(&self, folder: &std::path::Path) -> Self {
        let cache = (self.quantization != Quantization::None)
            .then(|| Arc::new(WeightCache::open(folder, &self.checkpoint, self.quantization)));
        Self { cache, ..self.clone() }
    }

    /// Completes the file of [`Weights::with_weight_cache`]. Call it when everything was loaded.
    pub fn finish_weight_cache(&self) {
        if let Some(cache) = &self.cache {
            cache.finish();
        }
    }

    /// The same view, whose linear layers can be changed by LoRAs: through [`Weights::adaptable_layers`].
    pub fn adaptable(&self) -> Self {
        Self { adaptable: Some(AdaptableLayers::default()), ..self.clone() }
    }

    /// The layers that were loaded through this view of [`Weights::adaptable`] and views derived from it.
    pub fn adaptable_layers(&self) -> AdaptableLayers {
        self.adaptable.clone().unwrap_or_default()
    }

    /// The device that tensors are loaded to.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The compute type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The underlying checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether the checkpoint has the tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.checkpoint.entry(&self.name(name)).is_some()
    }

    /// Loads a tensor of exactly `shape` in the compute type. A packed weight (`….weight` `[outputs, inputs]`) is
    /// widened.
    ///
    /// # Errors
    /// [`CheckpointError::Invalid`] with the file when the tensor is missing or has another shape;
    /// [`TensorError::OutOfMemory`].
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, TensorError> {
        self.tensor_as(name, shape, self.kind)
    }

    /// Loads a tensor of exactly `shape` in `kind`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn tensor_as(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor, TensorError> {
        let tensor = self.host(name, shape)?.f_to_kind(kind)?.f_to_device(self.device)?;
        Ok(self.count(tensor))
    }

    /// Loads only the rows `rows` of a table `[rows, width]`, in the compute type; those of an 8-bit table
    /// (`….weight`) are multiplied by their scales.
    ///
    /// # Errors
    /// As [`Weights::tensor`]; [`CheckpointError::Invalid`] also for a row outside the table.
    pub fn rows(&self, name: &str, rows: &[i64]) -> Result<Tensor, TensorError> {
        let mut used = Vec::new();
        let read = quantized::read_rows(&self.checkpoint, &self.name(name), rows, &mut used)?;
        let tensor = read.f_to_kind(self.kind)?.f_to_device(self.device)?;
        self.record().used.extend(used);
        Ok(tensor)
    }

    /// Checks that the table `name` exists with exactly `shape` (and, in 8 bits, with its scales), and counts it as used,
    /// without loading it.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn require(&self, name: &str, shape: &[i64]) -> Result<(), TensorError> {
        let name = self.name(name);
        let mut used = Vec::new();
        if self.check(&name, shape)? == StoredDtype::F8E4M3 {
            drop(quantized::read_rows(&self.checkpoint, &name, &[0], &mut used)?);
        }
        used.push(name);
        self.record().used.extend(used);
        Ok(())
    }

    /// Loads a linear layer from `name.weight` `[outputs, inputs]` and, with `bias`, `name.bias` `[outputs]`,
    /// quantised as configured.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn linear(&self, name: &str, inputs: i64, outputs: i64, bias: bool) -> Result<Linear, TensorError> {
        self.fused_linear(&[(name, outputs)], inputs, bias)
    }

    /// Loads layers that have the same input as one layer. Each part is given by its name and its number of outputs;
    /// the outputs are concatenated in that order. Each part keeps its own scales.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn fused_linear(
        &self,
        parts: &[(&str, i64)],
        inputs: i64,
        bias: bool,
    ) -> Result<Linear, TensorError> {
        let join = |mut parts: Vec<Tensor>| -> Result<Tensor, TensorError> {
            if parts.len() > 1 {
                return Ok(Tensor::f_cat(&parts, 0)?);
            }
            parts.pop().ok_or_else(|| no_names(self))
        };
        let bias = match bias {
            true => {
                let parts =
                    parts.iter().map(|(name, outputs)| self.host(&format!("{name}.bias"), &[*outputs]));
                Some(join(parts.collect::<Result<_, _>>()?)?.f_to_kind(self.kind)?.f_to_device(self.device)?)
            }
            false => None,
        };
        let weights = parts.iter().map(|(name, outputs)| self.stored(name, [*outputs, inputs]));
        let linear = self.linear_from_parts(weights.collect::<Result<_, _>>()?, bias)?;
        Ok(linear.with_adapters(self.adapters(parts, inputs)))
    }

    /// The changes of a layer of `parts`, empty so far.
    fn adapters(&self, parts: &[(&str, i64)], inputs: i64) -> Adapters {
        let Some(layers) = &self.adaptable else { return Adapters::default() };
        let shape = LayerShape { inputs, outputs: 0, kind: self.kind, device: self.device };
        layers.register(parts.iter().map(|(name, outputs)| (self.name(name), *outputs)), shape)
    }

    /// A linear layer of a weight `[outputs, inputs]` that is part of a stack: `read` loads it to the host and is not
    /// called when the cache has the quantised weight.
    pub(crate) fn linear_from(
        &self,
        name: &str,
        shape: [i64; 2],
        read: impl FnOnce() -> Result<Tensor, TensorError>,
    ) -> Result<Linear, TensorError> {
        let stored = self.quantized(name, shape, || Ok(HostWeight::Dense(read()?)))?;
        self.linear_from_parts(vec![stored], None)
    }

    /// A layer whose weight is the concatenation of `parts` along the outputs.
    pub(crate) fn linear_from_parts(
        &self,
        parts: Vec<HostWeight>,
        bias: Option<Tensor>,
    ) -> Result<Linear, TensorError> {
        let linear = Linear::from_parts(parts, bias, self.kind, self.device)?;
        self.record().resident += linear.resident_bytes();
        Ok(linear)
    }

    /// The weight of the linear layer `name` `[outputs, inputs]` on the host, in the format it will be held in.
    fn stored(&self, name: &str, shape: [i64; 2]) -> Result<HostWeight, TensorError> {
        if self.exact {
            return Ok(HostWeight::Dense(self.read(name, shape)?.dense(self.kind)?));
        }
        self.quantized(name, shape, || self.read(name, shape))
    }

    /// The weight that `read` loads, quantised as configured: from the cache file if it has it, else quantised now
    /// and added to the cache.
    fn quantized(
        &self,
        name: &str,
        shape: [i64; 2],
        read: impl FnOnce() -> Result<HostWeight, TensorError>,
    ) -> Result<HostWeight, TensorError> {
        let full = self.name(name);
        let cache = self.cache.as_ref().filter(|_| self.quantization != Quantization::None);
        if let Some(cache) = cache
            && let Some(stored) = cache.read(&full, shape)
        {
            self.record().used.insert(format!("{full}.weight"));
            return Ok(stored);
        }
        let stored = read()?;
        let dense = matches!(stored, HostWeight::Dense(_));
        let stored = stored.quantized(self.quantization)?;
        if let (true, Some(cache), HostWeight::Packed(weight)) = (dense, cache, &stored) {
            cache.add(&full, weight);
        }
        Ok(stored)
    }

    /// The weight of the linear layer `name` `[outputs, inputs]` as stored in the checkpoint.
    fn read(&self, name: &str, shape: [i64; 2]) -> Result<HostWeight, TensorError> {
        let mut used = Vec::new();
        let stored = quantized::read(&self.checkpoint, &self.name(name), shape, &mut used)?;
        self.record().used.extend(used);
        Ok(stored)
    }

    /// Loads an embedding table of `rows` vectors of `width` numbers from `name.weight`; the table can also serve as
    /// the output layer.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn embedding(&self, name: &str, rows: i64, width: i64) -> Result<Embedding, TensorError> {
        Ok(Embedding::new(self.linear(name, width, rows, false)?, self.kind, self.device))
    }

    /// Bytes in memory of everything that was loaded through this view and all views derived from the same
    /// [`Weights::new`].
    pub fn resident_bytes(&self) -> u64 {
        self.record().resident
    }

    /// Names of the tensors in the checkpoint that were not loaded, sorted. A tensor in this list hints at an
    /// architecture that differs from the expected one.
    pub fn unused(&self) -> Vec<String> {
        let record = self.record();
        let mut names: Vec<String> = self
            .checkpoint
            .names()
            .filter(|name| !record.used.contains(*name) && !is_marker(name))
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names
    }

    /// The tensor as floating-point numbers on the host: as stored; 8-bit floats multiplied by their scale, and packed
    /// weights, in f32.
    fn host(&self, name: &str, shape: &[i64]) -> Result<Tensor, TensorError> {
        if let (Some(linear), &[outputs, inputs]) = (name.strip_suffix(".weight"), shape) {
            return self.read(linear, [outputs, inputs])?.dense(Kind::Float);
        }
        let name = self.name(name);
        let kind = self.check(&name, shape)?;
        let tensor = self.checkpoint.read(&name)?;
        let mut used = Vec::new();
        let tensor = match kind {
            StoredDtype::F8E4M3 => {
                let scale = quantized::single_scale(&self.checkpoint, &name, &mut used)?;
                tensor.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?
            }
            _ => tensor,
        };
        used.push(name);
        self.record().used.extend(used);
        Ok(tensor)
    }

    /// A stack of weights `[count, outputs, inputs]` on the host, stored in that order or with the last two
    /// dimensions exchanged.
    pub(crate) fn stacked(
        &self,
        name: &str,
        shape: [i64; 3],
        transposed: bool,
    ) -> Result<Tensor, TensorError> {
        let [count, outputs, inputs] = shape;
        if self.checkpoint.entry(&self.name(name)).is_some_and(|entry| entry.kind == StoredDtype::F8E4M3) {
            let reason = "stacked experts in 8 bits are not supported";
            return Err(self.checkpoint.invalid(&self.name(name), reason).into());
        }
        match transposed {
            true => Ok(self.host(name, &[count, inputs, outputs])?.f_transpose(1, 2)?),
            false => self.host(name, &shape),
        }
    }

    /// Whether the tensor `name` exists with exactly `shape`.
    pub(crate) fn has_shape(&self, name: &str, shape: &[i64]) -> bool {
        self.checkpoint.entry(&self.name(name)).is_some_and(|entry| entry.shape == shape)
    }

    /// Weight `index` of a GGUF stack `name.weight` `[count, outputs, inputs]`, in the format it will be held in.
    pub(crate) fn slice(&self, name: &str, index: i64, shape: [i64; 3]) -> Result<HostWeight, TensorError> {
        let [_, outputs, inputs] = shape;
        let read =
            || quantized::read_slice(&self.checkpoint, &self.name(format!("{name}.weight")), index, shape);
        if self.exact {
            return Ok(HostWeight::Dense(read()?.dense(self.kind)?));
        }
        self.quantized(&format!("{name}.{index}"), [outputs, inputs], read)
    }

    /// Counts the tensor `name` as used.
    pub(crate) fn mark_used(&self, name: &str) {
        self.record().used.insert(self.name(name));
    }

    /// Checks that the tensor of the full name `name` has `shape` and is floating point.
    fn check(&self, name: &str, shape: &[i64]) -> Result<StoredDtype, CheckpointError> {
        use StoredDtype::{Bf16, F8E4M3, F16, F32, F64};
        let invalid = |reason: String| self.checkpoint.invalid(name, reason);
        let entry = self.checkpoint.entry(name).ok_or_else(|| invalid("is not in the checkpoint".into()))?;
        if entry.shape != shape {
            let reason = format!("has shape {:?}, the configuration requires {shape:?}", entry.shape);
            return Err(invalid(reason));
        }
        match entry.kind {
            F64 | F32 | F16 | Bf16 | F8E4M3 => Ok(entry.kind),
            other => Err(invalid(format!("is stored as {other:?}, not as floating point"))),
        }
    }

    fn name(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    fn count(&self, tensor: Tensor) -> Tensor {
        self.record().resident += tensor_bytes(&tensor);
        tensor
    }

    fn record(&self) -> std::sync::MutexGuard<'_, LoadRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a tensor only says that the file holds scaled 8-bit weights (ComfyUI).
fn is_marker(name: &str) -> bool {
    name == "scaled_fp8" || name.ends_with(".scaled_fp8")
}

fn no_names(weights: &Weights) -> TensorError {
    CheckpointError::invalid(weights.checkpoint.folder(), "a linear layer without names was requested").into()
}

#[cfg(test)]
mod tests;
