//! ggml's block formats (`ggml-common.h`, `ggml-quants.c`). A block is unpacked into codes, scales and minimums, from
//! which both the exact values and the integer layout of the CPU kernels are computed.

use half::f16;
use videosdgx_gguf::GgmlType;

use super::allocate;
use crate::cpu::Pages;
use crate::{BlockFormat, RowBlocks, TensorError, ZeroPoint, host, parallel};

/// Values in a super-block.
const SUPER: usize = 256;

/// `[rows, width]` in one of ggml's block formats, with the bytes of the file.
pub(crate) struct Ggml {
    pub(super) kind: GgmlType,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) bytes: Pages,
    format: BlockFormat,
}

impl Ggml {
    /// The format of the integer kernels for `kind`; `None` for types that are not supported.
    pub(crate) fn format_of(kind: GgmlType) -> Option<BlockFormat> {
        Some(match kind {
            GgmlType::Q4_0 => BlockFormat::Q4_0,
            GgmlType::Q4_1 => BlockFormat::Q4_1,
            GgmlType::Q8_0 => BlockFormat::Q8_0,
            GgmlType::Q4K => BlockFormat::Q4_K,
            GgmlType::Q6K => BlockFormat::Q6_K,
            _ => return None,
        })
    }

    /// `bytes` holds `rows` rows of whole blocks. `None` when the type is not supported or the size does not match.
    pub(super) fn new(kind: GgmlType, rows: usize, width: usize, bytes: Pages) -> Option<Self> {
        let expected = kind.bytes(&[rows as u64, width as u64])?;
        let format = Self::format_of(kind).filter(|_| bytes.len() as u64 == expected)?;
        Some(Self { kind, rows, width, bytes, format })
    }

    /// Quantises `[rows, width]` on the host to Q4_1, as ggml does: code 0 is the block's smallest value, 15 its
    /// largest. `None` when `width` is not a multiple of 32.
    pub(crate) fn quantize(weight: &tch::Tensor) -> Result<Option<Self>, TensorError> {
        let (rows, width) = super::host_weight::sizes(weight)?;
        let Some(count) = GgmlType::Q4_1.bytes(&[rows as u64, width as u64]) else { return Ok(None) };
        let weight = weight.f_to_kind(tch::Kind::Float)?.f_contiguous()?;
        let values = host::slice::<f32>(&weight);
        let mut bytes = allocate(count)?;
        parallel::rows(bytes.bytes_mut(), 20, |first, bytes| {
            for (block, values) in bytes.chunks_mut(20).zip(values[first * 32..].chunks(32)) {
                quantize_q4_1(values, block);
            }
        });
        Ok(Self::new(GgmlType::Q4_1, rows, width, bytes))
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn format(&self) -> BlockFormat {
        self.format
    }

    /// Unpacks row `row`.
    pub(crate) fn unpack_row(&self, row: usize, out: &mut RowBlocks) {
        let bytes = self.bytes.len() / self.rows.max(1);
        let row = &self.bytes.bytes()[row * bytes..][..bytes];
        let RowBlocks { codes, scales, minimums } = out;
        let elements = usize::try_from(self.kind.block_elements()).unwrap_or(SUPER);
        let block_bytes = usize::try_from(self.kind.block_bytes()).unwrap_or(1);
        let groups = elements / self.format.block;
        let parts =
            codes.chunks_mut(elements).zip(scales.chunks_mut(groups)).zip(minimums.chunks_mut(groups));
        for (block, ((codes, scales), minimums)) in row.chunks(block_bytes).zip(parts) {
            match self.kind {
                GgmlType::Q4_0 => q4_0(block, codes, scales),
                GgmlType::Q4_1 => q4_1(block, codes, scales, minimums),
                GgmlType::Q8_0 => q8_0(block, codes, scales),
                GgmlType::Q4K => q4_k(block, codes, scales, minimums),
                _ => q6_k(block, codes, scales),
            }
        }
    }

    pub(super) fn decode_row(&self, row: usize, out: &mut [f32]) {
        let block = self.format.block;
        let groups = self.width / block;
        let mut parts =
            RowBlocks { codes: vec![0; self.width], scales: vec![0.0; groups], minimums: vec![0.0; groups] };
        self.unpack_row(row, &mut parts);
        let scales = parts.scales.iter().zip(&parts.minimums);
        for ((out, codes), (&scale, &minimum)) in
            out.chunks_mut(block).zip(parts.codes.chunks(block)).zip(scales)
        {
            for (value, &code) in out.iter_mut().zip(codes) {
                *value = match self.format.zero_point {
                    ZeroPoint::Minimum => scale * f32::from(code) + minimum,
                    ZeroPoint::Centre(centre) => scale * (f32::from(code) - f32::from(centre)),
                };
            }
        }
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// 16 bytes of nibbles: the low nibbles are the first half, the high ones the second.
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = byte & 15;
        *high = byte >> 4;
    }
}

/// d f16, 16 bytes of nibbles: `d · (q − 8)`.
fn q4_0(block: &[u8], codes: &mut [u8], scales: &mut [f32]) {
    scales[0] = half(block);
    nibbles(&block[2..], codes);
}

/// d f16, m f16, 16 bytes of nibbles: `d · q + m`.
fn q4_1(block: &[u8], codes: &mut [u8], scales: &mut [f32], minimums: &mut [f32]) {
    scales[0] = half(block);
    minimums[0] = half(&block[2..]);
    nibbles(&block[4..], codes);
}

/// d f16, 32 signed bytes: `d · q`; a code is `q + 128`.
fn q8_0(block: &[u8], codes: &mut [u8], scales: &mut [f32]) {
    scales[0] = half(block);
    for (code, byte) in codes.iter_mut().zip(&block[2..]) {
        *code = byte ^ 0x80;
    }
}

/// d f16, dmin f16, 12 bytes of eight 6-bit scales and minimums, 128 bytes of nibbles: `(d · sc) · q − dmin · mn` in
/// groups of 32, two of them in the nibbles of 32 bytes.
fn q4_k(block: &[u8], codes: &mut [u8], scales: &mut [f32], minimums: &mut [f32]) {
    let (d, dmin) = (half(block), half(&block[2..]));
    let packed = &block[4..16];
    for group in 0..8 {
        let (scale, minimum) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            let low = packed[group + 4];
            (low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
        };
        scales[group] = d * f32::from(scale);
        minimums[group] = -(dmin * f32::from(minimum));
    }
    for (codes, bytes) in codes.chunks_mut(64).zip(block[16..].chunks(32)) {
        nibbles(bytes, codes);
    }
}

/// 128 bytes of low nibbles, 64 bytes of two high bits, 16 signed scales, d f16: `(d · sc) · (q − 32)` in groups of 16.
fn q6_k(block: &[u8], codes: &mut [u8], scales: &mut [f32]) {
    let (low, high, d) = (&block[..128], &block[128..192], half(&block[208..]));
    for (scale, &byte) in scales.iter_mut().zip(&block[192..208]) {
        *scale = d * f32::from(byte as i8);
    }
    for (index, code) in codes.iter_mut().enumerate() {
        // Each half of 128 values has 64 bytes of nibbles and 32 bytes of high bits.
        let (half, within) = (index / 128, index % 128);
        let nibble = low[half * 64 + within % 64] >> (within / 64 * 4) & 15;
        let bits = high[half * 32 + within % 32] >> (within / 32 * 2) & 3;
        *code = nibble | bits << 4;
    }
}

fn quantize_q4_1(values: &[f32], block: &mut [u8]) {
    let smallest = values.iter().fold(f32::INFINITY, |smallest, &value| smallest.min(value));
    let largest = values.iter().fold(f32::NEG_INFINITY, |largest, &value| largest.max(value));
    let scale = (largest - smallest) / 15.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let code = |value: f32| ((value - smallest) * inverse + 0.5).clamp(0.0, 15.0) as u8;
    block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    block[2..4].copy_from_slice(&f16::from_f32(smallest).to_le_bytes());
    for (index, byte) in block[4..].iter_mut().enumerate() {
        *byte = code(values[index]) | code(values[index + 16]) << 4;
    }
}
