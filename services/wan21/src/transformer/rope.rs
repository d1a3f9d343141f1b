//! Rotary angles over frames, rows and columns.

use videosdgx_tensor::{Device, Kind, Rope, Tensor};

use super::TransformerConfig;

/// Base of the frequencies.
const THETA: f64 = 10_000.0;

/// Angles for a grid of `frames × rows × columns` patches, in that order.
///
/// A head is split in three: columns and rows take `2·(head/6)` channels each, frames the rest
/// (`WanRotaryPosEmbed` of diffusers).
pub(super) fn angles(config: &TransformerConfig, grid: [i64; 3], device: Device) -> Rope {
    let head = config.attention_head_dim;
    let side = 2 * (head / 6);
    let channels = [head - 2 * side, side, side];
    let [frames, rows, columns] = grid;
    let parts: Vec<Tensor> = (0..3)
        .map(|axis| {
            let half = channels[axis] / 2;
            let exponent = Tensor::arange(half, (Kind::Double, Device::Cpu)) * (2.0 / channels[axis] as f64);
            let frequency = (exponent * -THETA.ln()).exp();
            let position = Tensor::arange(grid[axis], (Kind::Double, Device::Cpu));
            let mut shape = [1, 1, 1, half];
            shape[axis] = grid[axis];
            position.outer(&frequency).view(shape).expand([frames, rows, columns, half], false)
        })
        .collect();
    Rope::new(&Tensor::cat(&parts, -1).view([frames * rows * columns, head / 2]).to_device(device))
}
