//! Weights of RMS norms.

use tch::{Kind, Tensor};
use videosdgx_tensor::{TensorError, Weights};

use crate::BlockConfig;

/// Loads the weight `[width]` of a norm in the form that is multiplied. Weights that are stored as differences from 1
/// stay in f32, since the sum has more bits than the difference.
pub(crate) fn norm_weight(weights: &Weights, width: i64, block: &BlockConfig) -> Result<Tensor, TensorError> {
    match block.centred_norms {
        true => Ok(weights.tensor_as("weight", &[width], Kind::Float)?.f_add_scalar(1.0)?),
        false => weights.tensor("weight", &[width]),
    }
}
