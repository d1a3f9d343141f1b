//! A weight in blocks of integers, multiplied as integers: GGUF's formats in the order in which the CPU reads them.

use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use super::activations::{Activations, Correction, Layout, Precision, TILE};
use super::block_kernel::{Multiply, Strip, Tile};
use super::lanes::{Level, dispatch};
use super::pages::Pages;
use super::pool::{self, SharedMut};
use crate::host::HostFloat;
use crate::{TensorError, host};

/// Largest size of the input that a piece of work passes over for each strip, in bytes.
const PANEL_BYTES: usize = 384 << 10;
/// Smallest size of a piece of work, in bytes of weight times tiles of input.
const PIECE_BYTES: usize = 16 << 10;

/// Rows of the weight that are multiplied together: one for each 32-bit lane of a 512-bit register.
pub(super) const STRIP: usize = 16;

/// Size of a code in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeBits {
    /// 0 to 15.
    Four,
    /// 0 to 255 (also for 5 and 6 bits).
    Eight,
}

/// How code 0 relates to the value 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroPoint {
    /// `value = scale · code + minimum`, with a minimum for each block.
    Minimum,
    /// `value = scale · (code − centre)`.
    Centre(u8),
}

/// Precision of scales and minimums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleKind {
    /// IEEE half precision: for formats that store their scales in it.
    F16,
    /// Single precision.
    F32,
}

/// The format of a [`BlockMatrix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFormat {
    /// Size of a code.
    pub bits: CodeBits,
    /// Values that share a scale: 32, or 16 with codes of eight bits.
    pub block: usize,
    /// How code 0 relates to the value 0.
    pub zero_point: ZeroPoint,
    /// Precision of scales and minimums.
    pub scales: ScaleKind,
}

impl BlockFormat {
    /// GGUF's Q4_0: `d · (q − 8)`.
    pub const Q4_0: Self =
        Self { bits: CodeBits::Four, block: 32, zero_point: ZeroPoint::Centre(8), scales: ScaleKind::F16 };
    /// GGUF's Q4_1: `d · q + m`.
    pub const Q4_1: Self =
        Self { bits: CodeBits::Four, block: 32, zero_point: ZeroPoint::Minimum, scales: ScaleKind::F16 };
    /// GGUF's Q8_0: `d · q`, q signed; a code is `q + 128`.
    pub const Q8_0: Self =
        Self { bits: CodeBits::Eight, block: 32, zero_point: ZeroPoint::Centre(128), scales: ScaleKind::F16 };
    /// GGUF's Q4_K: `(d · sc) · q − dmin · mn`, with the products computed while loading.
    pub const Q4_K: Self =
        Self { bits: CodeBits::Four, block: 32, zero_point: ZeroPoint::Minimum, scales: ScaleKind::F32 };
    /// GGUF's Q6_K: `(d · sc) · (q − 32)` in blocks of 16.
    pub const Q6_K: Self =
        Self { bits: CodeBits::Eight, block: 16, zero_point: ZeroPoint::Centre(32), scales: ScaleKind::F32 };

    /// Bytes of the codes of one block of a strip.
    pub(super) fn code_bytes(self) -> usize {
        match self.bits {
            CodeBits::Four => STRIP * self.block / 2,
            CodeBits::Eight => STRIP * self.block,
        }
    }

    /// Bytes of the scales (and minimums) of one block of a strip.
    pub(super) fn scale_bytes(self) -> usize {
        let numbers = if self.zero_point == ZeroPoint::Minimum { 2 * STRIP } else { STRIP };
        numbers * if self.scales == ScaleKind::F16 { 2 } else { 4 }
    }
}

/// One unpacked row, filled in by the caller of [`BlockMatrix::build`]: one byte for each code, in the order of K.
pub struct RowBlocks {
    /// `K` codes.
    pub codes: Vec<u8>,
    /// `K / block` scales.
    pub scales: Vec<f32>,
    /// `K / block` minimums; unused with [`ZeroPoint::Centre`].
    pub minimums: Vec<f32>,
}

/// A weight `[rows, width]`, `width` a multiple of the block. Rows are held in strips of 16, interleaved so that one
/// instruction multiplies four neighbouring values of each of them.
pub struct BlockMatrix {
    rows: usize,
    width: usize,
    format: BlockFormat,
    /// `[strips][blocks]`, each of `code_bytes`: in every 64 bytes, byte `4·r + i` belongs to row `r` of the strip
    /// and value `4·g + i` of the block. With 4-bit codes the low nibbles are group `g` of the first half and the
    /// high nibbles of the second.
    codes: Pages,
    /// `[strips][blocks]`, each of `scale_bytes`: 16 scales, then 16 minimums.
    scales: Pages,
}

impl BlockMatrix {
    /// Calls `fill(row, out)` for each row, on several threads, and packs the result.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`], and the first error of `fill`.
    pub fn build<E: From<TensorError> + Send>(
        rows: usize,
        width: usize,
        format: BlockFormat,
        fill: impl Fn(usize, &mut RowBlocks) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        assert!(
            matches!(format.block, 16 | 32) && width.is_multiple_of(format.block),
            "{width} in {format:?}"
        );
        let blocks = width / format.block;
        let strips = rows.div_ceil(STRIP);
        let mut codes = Pages::zeroed(strips * blocks * format.code_bytes())?;
        let mut scales = Pages::zeroed(strips * blocks * format.scale_bytes())?;
        let (strip_codes, strip_scales) = (blocks * format.code_bytes(), blocks * format.scale_bytes());
        let (to_codes, to_scales) = (SharedMut::new(codes.bytes_mut()), SharedMut::new(scales.bytes_mut()));
        let failure = Mutex::new(None);
        pool::run(strips, |strip| {
            let mut row_blocks =
                RowBlocks { codes: vec![0; width], scales: vec![0.0; blocks], minimums: vec![0.0; blocks] };
            // SAFETY: each strip has its own part of both buffers.
            let (codes, scales) = unsafe {
                (
                    to_codes.slice(strip * strip_codes, strip_codes),
                    to_scales.slice(strip * strip_scales, strip_scales),
                )
            };
            for row in strip * STRIP..rows.min((strip + 1) * STRIP) {
                match fill(row, &mut row_blocks) {
                    Ok(()) => pack_row(format, row % STRIP, &row_blocks, codes, scales),
                    Err(error) => {
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        return;
                    }
                }
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        Ok(Self { rows, width, format, codes, scales })
    }

    /// Number of rows: the width of the output.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values in a row: the width of the input.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The format of the blocks.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// Bytes of codes and scales.
    pub fn resident_bytes(&self) -> u64 {
        (self.codes.len() + self.scales.len()) as u64
    }

    /// Writes the values of row `row`, computed in f32, to `out` `[width]`.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.width, "row {row} of {}", self.rows);
        let format = self.format;
        let blocks = self.width / format.block;
        let lane = row % STRIP;
        for (index, out) in out.chunks_mut(format.block).enumerate() {
            let place = row / STRIP * blocks + index;
            let codes = &self.codes.bytes()[place * format.code_bytes()..][..format.code_bytes()];
            let scales = &self.scales.bytes()[place * format.scale_bytes()..][..format.scale_bytes()];
            let scale = read_scale(format.scales, scales, lane);
            let (centre, minimum) = match format.zero_point {
                ZeroPoint::Minimum => (0.0, read_scale(format.scales, scales, STRIP + lane)),
                ZeroPoint::Centre(centre) => (f32::from(centre), 0.0),
            };
            for (k, out) in out.iter_mut().enumerate() {
                let (byte, shift) = place_of(format, lane, k);
                let code = match format.bits {
                    CodeBits::Four => codes[byte] >> shift & 15,
                    CodeBits::Eight => codes[byte],
                };
                *out = scale * (f32::from(code) - centre) + minimum;
            }
        }
    }

    /// `[…, width]` f32, bf16 or f16 on the CPU times `Wᵀ`, plus `bias` `[rows]` → `[…, rows]` in the input's type.
    ///
    /// The input is rounded to integers in blocks of the same size, each row on its own: to 8 bits from bf16 and f16,
    /// to 15 bits from f32. The result of a row is bit-identical in every batch.
    pub fn forward(&self, input: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let mut shape = input.size();
        if let Some(last) = shape.last_mut() {
            *last = self.rows as i64;
        }
        let output = Tensor::empty(shape.as_slice(), (input.kind(), Device::Cpu));
        self.forward_into(input, bias, &output);
        output
    }

    /// As [`BlockMatrix::forward`], into `output`, contiguous and of the right shape and type.
    pub fn forward_into(&self, input: &Tensor, bias: Option<&Tensor>, output: &Tensor) {
        self.multiply(Level::detect(), input, bias, output);
    }

    fn multiply(&self, level: Level, input: &Tensor, bias: Option<&Tensor>, output: &Tensor) {
        let input = input.contiguous();
        let bias: Option<Vec<f32>> = bias.map(|bias| host::slice::<f32>(&bias.to_kind(Kind::Float)).to_vec());
        match input.kind() {
            Kind::BFloat16 => self.product::<bf16>(level, &input, Precision::Coarse, bias.as_deref(), output),
            Kind::Half => self.product::<f16>(level, &input, Precision::Coarse, bias.as_deref(), output),
            _ => self.product::<f32>(level, &input, Precision::Fine, bias.as_deref(), output),
        }
    }

    fn product<T: HostFloat>(
        &self,
        level: Level,
        input: &Tensor,
        precision: Precision,
        bias: Option<&[f32]>,
        output: &Tensor,
    ) {
        let (input, output) = (host::slice::<T>(input), host::slice_mut::<T>(output));
        let rows = input.len().checked_div(self.width).unwrap_or(0);
        let layout = Layout { rows, width: self.width, block: self.format.block, precision };
        assert!(
            input.len() == rows * self.width && output.len() == rows * self.rows,
            "{} values for rows of {}, {} results",
            input.len(),
            self.width,
            output.len()
        );
        assert!(bias.is_none_or(|bias| bias.len() == self.rows), "a bias for {} rows", self.rows);
        let correction = match self.format.zero_point {
            ZeroPoint::Minimum => Correction::Sum,
            ZeroPoint::Centre(centre) => Correction::Centre(i32::from(centre)),
        };
        Activations::with(|activations| {
            activations.quantize(input, layout, correction);
            let plan = Plan::new(self, layout);
            let output = SharedMut::new(output);
            pool::run(plan.pieces(), |piece| {
                Piece { matrix: self, activations, layout, plan, level, bias, output }.run(piece);
            });
        });
    }

    fn strip(&self, index: usize) -> Strip<'_> {
        let blocks = self.width / self.format.block;
        let (codes, scales) = (blocks * self.format.code_bytes(), blocks * self.format.scale_bytes());
        Strip {
            format: self.format,
            blocks,
            codes: &self.codes.bytes()[index * codes..(index + 1) * codes],
            scales: &self.scales.bytes()[index * scales..(index + 1) * scales],
        }
    }
}

/// How a product is divided into pieces of work: a number of strips times a number of tiles each.
#[derive(Clone, Copy)]
struct Plan {
    strips: usize,
    tiles: usize,
    piece_strips: usize,
    piece_tiles: usize,
}

impl Plan {
    /// The input of a piece fits into the second-level cache; there are enough pieces for the threads to finish
    /// together, and no piece is so small that the cost of claiming it matters.
    fn new(matrix: &BlockMatrix, layout: Layout) -> Self {
        let (strips, tiles) = (matrix.rows.div_ceil(STRIP), layout.tiles());
        let tile_bytes = TILE * (layout.row_codes() + 4 * layout.row_scales());
        let piece_tiles = (PANEL_BYTES / tile_bytes.max(1)).clamp(1, tiles.max(1));
        let strip_bytes =
            matrix.width / matrix.format.block * (matrix.format.code_bytes() + matrix.format.scale_bytes());
        let least = (PIECE_BYTES / (strip_bytes * piece_tiles).max(1)).max(1);
        let piece_strips = strips.div_ceil(pool::threads() * 6).max(least);
        Self { strips, tiles, piece_strips, piece_tiles }
    }

    fn pieces(self) -> usize {
        self.strips.div_ceil(self.piece_strips) * self.tiles.div_ceil(self.piece_tiles)
    }
}

struct Piece<'a, T> {
    matrix: &'a BlockMatrix,
    activations: &'a Activations,
    layout: Layout,
    plan: Plan,
    level: Level,
    bias: Option<&'a [f32]>,
    output: SharedMut<T>,
}

impl<T: HostFloat> Piece<'_, T> {
    fn run(&self, piece: usize) {
        let Plan { strips, tiles, piece_strips, piece_tiles } = self.plan;
        let across = strips.div_ceil(piece_strips);
        let (panel, part) = (piece / across * piece_tiles, piece % across * piece_strips);
        let fine = self.layout.precision == Precision::Fine;
        let mut sums = [[0f32; STRIP]; TILE];
        for index in part..strips.min(part + piece_strips) {
            let strip = self.matrix.strip(index);
            let column = index * STRIP;
            let columns = STRIP.min(self.matrix.rows - column);
            for tile in panel..tiles.min(panel + piece_tiles) {
                let (first, rows) = self.layout.tile(tile);
                let (codes, scales) = self.activations.tile(self.layout, first, rows);
                let tile = Tile { rows, codes, scales, fine };
                dispatch(self.level, Multiply { strip, tile, sums: &mut sums });
                for (row, sums) in sums.iter_mut().enumerate().take(rows) {
                    if let Some(bias) = self.bias {
                        sums.iter_mut().zip(&bias[column..]).for_each(|(sum, bias)| *sum += bias);
                    }
                    let at = (first + row) * self.matrix.rows + column;
                    // SAFETY: no other piece writes these rows and columns of the output.
                    let to = unsafe { self.output.slice(at, columns) };
                    to.iter_mut().zip(sums).for_each(|(to, sum)| *to = T::narrow(*sum));
                }
            }
        }
    }
}

/// Byte and shift of value `k` of row `lane`, within the codes of a block of a strip.
fn place_of(format: BlockFormat, lane: usize, k: usize) -> (usize, u32) {
    let (group, within) = (k / 4, k % 4);
    let half = match format.bits {
        CodeBits::Four => format.block / 8,
        CodeBits::Eight => format.block / 4,
    };
    let shift = if group >= half { 4 } else { 0 };
    (group % half * 4 * STRIP + lane * 4 + within, shift)
}

fn pack_row(format: BlockFormat, lane: usize, row: &RowBlocks, codes: &mut [u8], scales: &mut [u8]) {
    let blocks = row.codes.chunks(format.block).zip(row.scales.iter().zip(&row.minimums));
    let places = codes.chunks_mut(format.code_bytes()).zip(scales.chunks_mut(format.scale_bytes()));
    for ((values, (&scale, &minimum)), (codes, scales)) in blocks.zip(places) {
        for (k, &code) in values.iter().enumerate() {
            let (byte, shift) = place_of(format, lane, k);
            codes[byte] |= code << shift;
        }
        write_scale(format.scales, scales, lane, scale);
        if format.zero_point == ZeroPoint::Minimum {
            write_scale(format.scales, scales, STRIP + lane, minimum);
        }
    }
}

fn write_scale(kind: ScaleKind, scales: &mut [u8], index: usize, value: f32) {
    match kind {
        ScaleKind::F16 => {
            scales[2 * index..2 * index + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes())
        }
        ScaleKind::F32 => scales[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes()),
    }
}

fn read_scale(kind: ScaleKind, scales: &[u8], index: usize) -> f32 {
    match kind {
        ScaleKind::F16 => f16::from_le_bytes([scales[2 * index], scales[2 * index + 1]]).to_f32(),
        ScaleKind::F32 => {
            let at = 4 * index;
            f32::from_le_bytes([scales[at], scales[at + 1], scales[at + 2], scales[at + 3]])
        }
    }
}

#[cfg(test)]
mod tests;
