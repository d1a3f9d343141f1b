//! Weights in e4m3 with one f32 scale an output channel, widened block by block while multiplying.

use std::sync::Arc;

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use super::{e4m3, tensor_bytes};
use crate::host::HostFloat;
use crate::{TensorError, host, parallel, simd};

/// Most bytes of widened weight alive at once. glibc serves blocks of this size from its heap, so that one call after
/// the other reuses the same pages.
const BLOCK_BYTES: i64 = 16 << 20;

pub(super) struct Fp8 {
    /// `[out, in]`, `Float8e4m3fn`.
    codes: Tensor,
    /// `[out]` f32 on the host.
    scales: Arc<Vec<f32>>,
    /// `[out, 1]` in f32 on a GPU, where libtorch widens.
    device_scales: Option<Tensor>,
    /// The compute type.
    kind: Kind,
}

impl Fp8 {
    /// Quantises `[out, in]`: `scale = max|row| / 448`, `code = e4m3(w / scale)`.
    pub(super) fn quantize(weight: &Tensor, kind: Kind, device: Device) -> Result<Self, TensorError> {
        let (rows, width) = weight.size2()?;
        let weight = weight.f_contiguous()?;
        let codes = Tensor::f_empty([rows, width], (Kind::Uint8, Device::Cpu))?;
        let mut scales = vec![0f32; usize::try_from(rows).unwrap_or(0)];
        let width = usize::try_from(width).unwrap_or(0);
        match weight.kind() {
            Kind::BFloat16 => {
                quantize_rows(host::slice::<bf16>(&weight), host::slice_mut(&codes), &mut scales, width)
            }
            Kind::Half => {
                quantize_rows(host::slice::<f16>(&weight), host::slice_mut(&codes), &mut scales, width)
            }
            _ => {
                let weight = weight.f_to_kind(Kind::Float)?;
                quantize_rows(host::slice::<f32>(&weight), host::slice_mut(&codes), &mut scales, width);
            }
        }
        let codes = codes.f_view_dtype(Kind::Float8e4m3fn)?.f_to_device(device)?;
        let device_scales = match device {
            Device::Cpu => None,
            _ => Some(Tensor::from_slice(&scales).f_unsqueeze(1)?.f_to_device(device)?),
        };
        Ok(Self { codes, scales: Arc::new(scales), device_scales, kind })
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        let on_device = self.device_scales.as_ref().map_or(0, tensor_bytes);
        tensor_bytes(&self.codes) + 4 * self.scales.len() as u64 + on_device
    }

    /// The same weight again, sharing its storage.
    pub(super) fn shared(&self) -> Self {
        Self {
            codes: self.codes.shallow_clone(),
            scales: Arc::clone(&self.scales),
            device_scales: self.device_scales.as_ref().map(Tensor::shallow_clone),
            kind: self.kind,
        }
    }

    /// Rows `ids` `[n]` → `[n, in]` in the compute type.
    pub(super) fn rows_at(&self, ids: &Tensor) -> Tensor {
        let ids: Vec<i64> = ids.iter::<i64>().map_or_else(|_| Vec::new(), Iterator::collect);
        Tensor::cat(&ids.iter().map(|&id| self.widened(id, 1)).collect::<Vec<_>>(), 0)
    }

    /// `[…, in]` → `[…, out]`.
    pub(super) fn linear(&self, input: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let (rows, width) = (self.codes.size()[0], self.codes.size()[1]);
        let block = block_rows(rows, width * self.kind.elt_size_in_bytes() as i64);
        if block >= rows {
            return input.linear(&self.widened(0, rows), bias);
        }
        let flat = input.reshape([-1, width]);
        let output = Tensor::empty([flat.size()[0], rows], (self.kind, input.device()));
        let mut first = 0;
        while first < rows {
            let count = block.min(rows - first);
            let weight = self.widened(first, count);
            let part = output.narrow(1, first, count);
            let _written = match bias {
                Some(bias) => bias.narrow(0, first, count).addmm_out(&part, &flat, &weight.tr()),
                None => flat.mm_out(&part, &weight.tr()),
            };
            first += count;
        }
        let mut shape = input.size();
        if let Some(last) = shape.last_mut() {
            *last = rows;
        }
        output.view(shape.as_slice())
    }

    /// Rows `first..first + count` times their scales, in the compute type.
    fn widened(&self, first: i64, count: i64) -> Tensor {
        let codes = self.codes.narrow(0, first, count);
        if let Some(scales) = &self.device_scales {
            return (codes.to_kind(Kind::Float) * scales.narrow(0, first, count)).to_kind(self.kind);
        }
        let width = usize::try_from(self.codes.size()[1]).unwrap_or(0);
        let scales = &self.scales[usize::try_from(first).unwrap_or(0)..];
        let codes = codes.view_dtype(Kind::Uint8);
        let codes = host::slice::<u8>(&codes);
        let weight = Tensor::empty([count, self.codes.size()[1]], (self.kind, Device::Cpu));
        match self.kind {
            Kind::BFloat16 => widen(codes, scales, host::slice_mut::<bf16>(&weight), width),
            Kind::Half => widen(codes, scales, host::slice_mut::<f16>(&weight), width),
            _ => widen(codes, scales, host::slice_mut::<f32>(&weight), width),
        }
        weight
    }
}

/// Rows of a block: as many as fit, evenly spread, in multiples of 32.
fn block_rows(rows: i64, row_bytes: i64) -> i64 {
    let blocks = (rows * row_bytes / BLOCK_BYTES) + 1;
    (rows / blocks + 32) / 32 * 32
}

fn quantize_rows<T: HostFloat>(weight: &[T], codes: &mut [u8], scales: &mut [f32], width: usize) {
    if width == 0 {
        return;
    }
    parallel::rows_with(codes, width, scales, |first, codes, scales| {
        let rows = weight[first * width..].chunks(width);
        simd::vectorized(|| {
            for ((codes, scale), row) in codes.chunks_mut(width).zip(scales).zip(rows) {
                let largest = row.iter().fold(0f32, |largest, &value| largest.max(value.widen().abs()));
                *scale = if largest > 0.0 && largest.is_finite() { largest / e4m3::MAX } else { 1.0 };
                let inverse = 1.0 / *scale;
                for (code, &value) in codes.iter_mut().zip(row) {
                    *code = e4m3::encode(value.widen() * inverse);
                }
            }
        });
    });
}

/// `output[r][c] = decode(codes[r][c]) · scales[r]`.
fn widen<T: HostFloat>(codes: &[u8], scales: &[f32], output: &mut [T], width: usize) {
    parallel::rows(output, width, |first, output| {
        let rows = output.chunks_mut(width).zip(codes[first * width..].chunks(width)).zip(&scales[first..]);
        simd::vectorized(|| {
            for ((output, codes), &scale) in rows {
                for (value, &code) in output.iter_mut().zip(codes) {
                    *value = T::narrow(e4m3::decode(code) * scale);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn relative(left: &Tensor, right: &Tensor) -> f64 {
        let (left, right) = (left.to_kind(Kind::Double), right.to_kind(Kind::Double));
        f64::try_from((left - &right).norm() / right.norm()).expect("a number")
    }

    #[rstest]
    #[case(Kind::Float, 48, 64, 1e-6)]
    #[case(Kind::BFloat16, 48, 64, 1e-2)]
    #[case(Kind::Half, 48, 64, 2e-3)]
    #[case::two_blocks(Kind::Float, 2050, 4096, 1e-6)]
    fn multiplies_by_the_values_it_stores(
        #[case] kind: Kind,
        #[case] rows: i64,
        #[case] width: i64,
        #[case] bound: f64,
    ) {
        tch::manual_seed(7);
        let weight = Tensor::randn([rows, width], (Kind::Float, Device::Cpu));
        let bias = Tensor::randn([rows], (Kind::Float, Device::Cpu));
        let input = Tensor::randn([2, 3, width], (Kind::Float, Device::Cpu));
        let fp8 = Fp8::quantize(&weight, kind, Device::Cpu).expect("quantises");
        let scales = Tensor::from_slice(fp8.scales.as_slice()).unsqueeze(1);
        let stored = fp8.codes.to_kind(Kind::Float) * scales;
        assert!(relative(&stored, &weight) < 0.03, "e4m3 keeps three bits");
        let output = fp8.linear(&input.to_kind(kind), Some(&bias.to_kind(kind)));
        assert_eq!(output.kind(), kind);
        let error = relative(&output, &input.linear(&stored, Some(&bias)));
        assert!(error < bound, "{error}");
        assert_eq!(fp8.resident_bytes(), u64::try_from(rows * width + rows * 4).expect("small"));
    }
}
