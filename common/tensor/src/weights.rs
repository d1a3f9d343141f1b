//! Loading a model's parts by name: a place in a checkpoint with a device and an element type.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::linear::tensor_bytes;
use crate::{Checkpoint, CheckpointError, Linear, Quantization, StoredKind, TensorError};

/// A cursor over a [`Checkpoint`]: names are relative to its prefix, tensors arrive on its device in its type.
#[derive(Clone)]
pub struct Weights {
    checkpoint: Arc<Checkpoint>,
    prefix: String,
    device: Device,
    kind: Kind,
    quantization: Quantization,
    ledger: Arc<Mutex<Ledger>>,
}

#[derive(Default)]
struct Ledger {
    used: HashSet<String>,
    resident: u64,
}

impl Weights {
    /// The whole checkpoint; `quantization` is what [`Weights::linear`] applies.
    pub fn new(checkpoint: Arc<Checkpoint>, device: Device, kind: Kind, quantization: Quantization) -> Self {
        Self { checkpoint, prefix: String::new(), device, kind, quantization, ledger: Arc::default() }
    }

    /// The part below `name`: `weights.at("blocks").at(0).tensor("scale_shift_table", …)`.
    pub fn at(&self, name: impl Display) -> Self {
        Self { prefix: self.name(name), ..self.clone() }
    }

    /// The same place without quantisation: for embedders and output layers.
    pub fn unquantized(&self) -> Self {
        Self { quantization: Quantization::None, ..self.clone() }
    }

    /// The same place with another compute type.
    pub fn with_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// Where tensors arrive.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The compute type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The checkpoint underneath.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether `name` is there.
    pub fn contains(&self, name: &str) -> bool {
        self.checkpoint.entry(&self.name(name)).is_some()
    }

    /// A tensor of exactly `shape` in the compute type.
    ///
    /// # Errors
    /// `Invalid` naming the file when it is not there or has another shape; `OutOfMemory`.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, TensorError> {
        self.tensor_as(name, shape, self.kind)
    }

    /// A tensor of exactly `shape` in `kind`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn tensor_as(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor, TensorError> {
        let tensor = self.host(name, shape)?.f_to_kind(kind)?.f_to_device(self.device)?;
        Ok(self.count(tensor))
    }

    /// Rows of a table `[rows, width]`, read from the disk now, in the compute type; the table itself is not kept.
    ///
    /// # Errors
    /// As [`Weights::tensor`]; `Invalid` also for a row that is not there.
    pub fn rows(&self, name: &str, rows: &[i64]) -> Result<Tensor, TensorError> {
        let name = self.name(name);
        let tensor =
            self.checkpoint.read_rows(&name, rows)?.f_to_kind(self.kind)?.f_to_device(self.device)?;
        self.ledger().used.insert(name);
        Ok(tensor)
    }

    /// Checks that `name` is there with exactly `shape`, and counts it as used.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn expect(&self, name: &str, shape: &[i64]) -> Result<(), TensorError> {
        let name = self.name(name);
        self.check(&name, shape)?;
        self.ledger().used.insert(name);
        Ok(())
    }

    /// A linear layer from `name.weight` `[outputs, inputs]` and, with `bias`, `name.bias` `[outputs]`, quantised as
    /// configured.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn linear(&self, name: &str, inputs: i64, outputs: i64, bias: bool) -> Result<Linear, TensorError> {
        self.fused_linear(&[name], inputs, outputs, bias)
    }

    /// Layers of equal shape over the same input as one: their outputs lie side by side, in order.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn fused_linear(
        &self,
        names: &[&str],
        inputs: i64,
        outputs: i64,
        bias: bool,
    ) -> Result<Linear, TensorError> {
        let part = |suffix: &str, shape: &[i64]| -> Result<Tensor, TensorError> {
            let parts = names.iter().map(|name| self.host(&format!("{name}.{suffix}"), shape));
            let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
            if parts.len() > 1 {
                Ok(Tensor::f_cat(&parts, 0)?)
            } else {
                parts.pop().ok_or_else(|| no_names(self))
            }
        };
        let bias = match bias {
            true => Some(part("bias", &[outputs])?.f_to_kind(self.kind)?.f_to_device(self.device)?),
            false => None,
        };
        let weight = part("weight", &[outputs, inputs])?;
        let linear = match self.quantization {
            Quantization::None => Linear::dense(weight.f_to_kind(self.kind)?.f_to_device(self.device)?, bias),
            Quantization::Fp8 => Linear::fp8(&weight, bias, self.kind, self.device)?,
        };
        self.ledger().resident += linear.resident_bytes();
        Ok(linear)
    }

    /// Bytes that everything loaded through this cursor and its relatives takes.
    pub fn resident_bytes(&self) -> u64 {
        self.ledger().resident
    }

    /// Tensors of the checkpoint that nobody asked for, sorted: a model that is not the one we think it is.
    pub fn unused(&self) -> Vec<String> {
        let ledger = self.ledger();
        let mut names: Vec<String> =
            self.checkpoint.names().filter(|name| !ledger.used.contains(*name)).map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    /// The tensor as stored (8-bit floats widened to bf16, which holds each of them) on the host.
    fn host(&self, name: &str, shape: &[i64]) -> Result<Tensor, TensorError> {
        let name = self.name(name);
        let kind = self.check(&name, shape)?;
        let tensor = self.checkpoint.read(&name)?;
        self.ledger().used.insert(name);
        if kind == StoredKind::F8E4M3 { Ok(tensor.f_to_kind(Kind::BFloat16)?) } else { Ok(tensor) }
    }

    /// Checks that the tensor of the whole `name` has `shape` and is floating point.
    fn check(&self, name: &str, shape: &[i64]) -> Result<StoredKind, CheckpointError> {
        use StoredKind::{Bf16, F8E4M3, F16, F32, F64};
        let invalid = |reason: String| self.checkpoint.invalid(name, reason);
        let entry = self.checkpoint.entry(name).ok_or_else(|| invalid("is not in the checkpoint".into()))?;
        if entry.shape != shape {
            let reason = format!("has shape {:?}, the configuration asks for {shape:?}", entry.shape);
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
        self.ledger().resident += tensor_bytes(&tensor);
        tensor
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_names(weights: &Weights) -> TensorError {
    CheckpointError::invalid(weights.checkpoint.folder(), "a linear of no names was asked for").into()
}
