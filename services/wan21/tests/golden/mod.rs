//! Fixtures made by `tests/reference` with diffusers and transformers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use videosdgx_tensor::{Checkpoint, Device, Kind, Quantization, Tensor, Weights};

/// The folder of fixture `name`.
pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// Inputs and outputs of a fixture by name.
pub(crate) fn tensors(name: &str) -> HashMap<String, Tensor> {
    let path = folder(name).join("golden.safetensors");
    Tensor::read_safetensors(&path).expect("the fixture is committed").into_iter().collect()
}

/// A part of a fixture's checkpoint, on the CPU.
pub(crate) fn weights(name: &str, part: &str, kind: Kind, quantization: Quantization) -> Weights {
    let checkpoint = Checkpoint::open(folder(name).join(part)).expect("the fixture is committed");
    Weights::new(Arc::new(checkpoint), Device::Cpu, kind, quantization)
}

/// ‖left − right‖ / ‖right‖.
pub(crate) fn relative(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    let (left, right) = (left.to_kind(Kind::Double), right.to_kind(Kind::Double));
    f64::try_from((left - &right).norm() / right.norm()).expect("a number")
}
