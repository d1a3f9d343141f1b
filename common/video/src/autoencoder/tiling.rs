//! Processing of large pictures in overlapping tiles, blended where they overlap.

use tch::{Kind, Tensor};
use videosdgx_tensor::TensorError;

/// Size and distance of tiles, in pixels: `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Size of a tile; a picture that fits into one tile is not tiled.
    pub size: [i64; 2],
    /// Distance from a tile to the next; at most the size. The rest of the size overlaps.
    pub stride: [i64; 2],
}

impl Default for Tiling {
    /// Tiles of 256 × 256, 192 apart, as in diffusers.
    fn default() -> Self {
        Self { size: [256; 2], stride: [192; 2] }
    }
}

/// The tiles of one picture size, in pixels or in latents.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    /// Size of the picture.
    picture: [i64; 2],
    size: [i64; 2],
    stride: [i64; 2],
}

impl Grid {
    /// The tiles of a picture of `[height, width]` pixels; a single tile when it fits into one or without tiling.
    pub(crate) fn new(picture: [i64; 2], tiling: Option<Tiling>) -> Result<Self, TensorError> {
        let whole = Self { picture, size: picture, stride: picture };
        let Some(Tiling { size, stride }) = tiling else {
            return Ok(whole);
        };
        if (0..2).any(|axis| stride[axis] < 1 || stride[axis] > size[axis]) {
            return Err(TensorError::Libtorch(format!(
                "tile stride {stride:?} must be from 1 to the tile size {size:?}"
            )));
        }
        if (0..2).all(|axis| picture[axis] <= size[axis]) {
            return Ok(whole);
        }
        Ok(Self { picture, size, stride })
    }

    /// The same tiles in units of `factor` pixels: latents.
    pub(crate) fn scaled_down(&self, factor: i64) -> Self {
        let scale = |values: [i64; 2]| values.map(|value| value / factor);
        Self {
            picture: scale(self.picture),
            size: scale(self.size),
            stride: scale(self.stride).map(|stride| stride.max(1)),
        }
    }

    /// Number of tiles.
    pub(crate) fn tiles(&self) -> usize {
        (self.count(0) * self.count(1)) as usize
    }

    fn count(&self, axis: usize) -> i64 {
        (self.picture[axis] + self.stride[axis] - 1) / self.stride[axis]
    }

    /// Start and length of the tiles along an axis.
    fn spans(&self, axis: usize) -> impl Iterator<Item = (i64, i64)> {
        let (picture, size, stride) = (self.picture[axis], self.size[axis], self.stride[axis]);
        (0..self.count(axis)).map(move |index| (index * stride, size.min(picture - index * stride)))
    }

    /// `[height, width]` of each tile, row by row; the first is the largest.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = [i64; 2]> {
        self.spans(0).flat_map(|(_, height)| self.spans(1).map(move |(_, width)| [height, width]))
    }

    /// Cuts `[t, h, w, c]` into its tiles, row by row. They share its memory.
    pub(crate) fn cut(&self, x: &Tensor) -> Vec<Tensor> {
        let mut tiles = Vec::with_capacity(self.tiles());
        for (top, height) in self.spans(0) {
            for (left, width) in self.spans(1) {
                tiles.push(x.narrow(1, top, height).narrow(2, left, width));
            }
        }
        tiles
    }

    /// Joins processed tiles `[t, h, w, c]` into a picture, in f32: each is blended with its upper and left neighbours
    /// where they overlap.
    pub(crate) fn join(&self, tiles: Vec<Tensor>) -> Tensor {
        let mut tiles: Vec<Tensor> = tiles.into_iter().map(|tile| tile.to_kind(Kind::Float)).collect();
        if tiles.len() == 1 {
            return tiles.remove(0);
        }
        let columns = self.count(1) as usize;
        for index in 0..tiles.len() {
            if index >= columns {
                blend(&tiles[index - columns], &tiles[index], 1, self.size[0] - self.stride[0]);
            }
            if index % columns > 0 {
                blend(&tiles[index - 1], &tiles[index], 2, self.size[1] - self.stride[1]);
            }
        }
        let crop = |tile: &Tensor, axis: usize| {
            let length = tile.size()[axis + 1].min(self.stride[axis]);
            tile.narrow(axis as i64 + 1, 0, length)
        };
        let rows: Vec<Tensor> = tiles
            .chunks(columns)
            .map(|row| {
                let row: Vec<Tensor> = row.iter().map(|tile| crop(&crop(tile, 0), 1)).collect();
                Tensor::cat(&row, 2)
            })
            .collect();
        let picture = Tensor::cat(&rows, 1);
        picture.narrow(1, 0, self.picture[0]).narrow(2, 0, self.picture[1])
    }
}

/// Cross-fades from the end of `before` to the beginning of `tile` along `axis`, in place.
fn blend(before: &Tensor, tile: &Tensor, axis: i64, overlap: i64) {
    let length = before.size()[axis as usize];
    let extent = overlap.min(length).min(tile.size()[axis as usize]);
    if extent == 0 {
        return;
    }
    let mut shape = [1i64; 4];
    shape[axis as usize] = extent;
    let share = Tensor::arange(extent, (Kind::Float, tile.device())) / extent as f64;
    let end = before.narrow(axis, length - extent, extent);
    let mut start = tile.narrow(axis, 0, extent);
    let blended = end.lerp_tensor(&start, &share.view(shape));
    start.copy_(&blended);
}
