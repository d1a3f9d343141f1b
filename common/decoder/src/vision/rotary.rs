//! Rotary positions in two dimensions: half of a head's pairs are rotated by the row, half by the column.

use tch::{Device, Kind, Tensor};

/// Rotations of the patches of a batch.
pub(super) struct Rotary {
    /// `[patches, 1, head / 2]` f32
    cos: Tensor,
    /// `[patches, 1, head / 2]` f32
    sin: Tensor,
}

impl Rotary {
    /// Rotations of patches at `places` (row, column); `head` is the width of a head, a multiple of four.
    pub(super) fn new(places: &[[usize; 2]], head: i64, theta: f64, device: Device) -> Self {
        let quarter = (head / 4) as usize;
        let frequency = |index: usize| 1.0 / (theta as f32).powf((2 * index) as f32 / (2 * quarter) as f32);
        let frequencies: Vec<f32> = (0..quarter).map(frequency).collect();
        let angles: Vec<f32> = places
            .iter()
            .flat_map(|place| {
                place.iter().flat_map(|&at| frequencies.iter().map(move |step| at as f32 * step))
            })
            .collect();
        let angles = Tensor::from_slice(&angles).view([places.len() as i64, 1, head / 2]).to_device(device);
        Self { cos: angles.cos(), sin: angles.sin() }
    }

    /// Rotates `values` `[patches, heads, head]`; computed in f32, result in the type of `values`.
    pub(super) fn rotate(&self, values: &Tensor) -> Tensor {
        let halves = values.to_kind(Kind::Float).chunk(2, -1);
        let (first, second) = (&halves[0], &halves[1]);
        let turned = [first * &self.cos - second * &self.sin, second * &self.cos + first * &self.sin];
        Tensor::cat(&turned, -1).to_kind(values.kind())
    }
}
