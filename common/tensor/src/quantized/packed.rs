//! Formats that are held packed and decoded during the multiplication.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use super::{Fp8, Ggml, Nf4, Nvfp4, nvfp4};
use crate::cpu::lanes::LaneFloat;
use crate::cpu::{Code, CodedRow, CodedRows, E4m3, HighFirst, LowFirst, coded_rows, widen_rows};
use crate::host::HostFloat;
use crate::{TensorError, host, linear_decoded_rows, parallel};

/// One packed weight `[rows, width]` on the host.
pub(crate) enum PackedWeight {
    Fp8(Fp8),
    Nf4(Nf4),
    Nvfp4(Nvfp4),
    Ggml(Ggml),
}

impl PackedWeight {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Fp8(weight) => weight.rows,
            Self::Nf4(weight) => weight.rows,
            Self::Nvfp4(weight) => weight.rows,
            Self::Ggml(weight) => weight.rows,
        }
    }

    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Fp8(weight) => weight.width,
            Self::Nf4(weight) => weight.width,
            Self::Nvfp4(weight) => weight.width,
            Self::Ggml(weight) => weight.width,
        }
    }

    /// Writes the values of row `row` to `out` `[width]`.
    fn decode_row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Fp8(weight) => weight.decode_row(row, out),
            Self::Nf4(weight) => weight.decode_row(row, out),
            Self::Nvfp4(weight) => weight.decode_row(row, out),
            Self::Ggml(weight) => weight.decode_row(row, out),
        }
    }

    fn resident_bytes(&self) -> u64 {
        match self {
            Self::Fp8(weight) => weight.resident_bytes(),
            Self::Nf4(weight) => weight.resident_bytes(),
            Self::Nvfp4(weight) => weight.resident_bytes(),
            Self::Ggml(weight) => weight.resident_bytes(),
        }
    }
}

/// Weights of one width, concatenated along the rows, each with its own scales.
pub(crate) struct PackedRows {
    /// Number of the first row of each part, and the part.
    parts: Vec<(usize, PackedWeight)>,
    rows: usize,
    width: usize,
    encoding: Encoding,
}

/// How all parts are decoded during the multiplication.
#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    E4m3 {
        block: usize,
    },
    Nf4 {
        block: usize,
        table: [f32; 16],
    },
    Nvfp4,
    /// Each row is decoded to memory first.
    Rows,
}

impl Encoding {
    fn of(weight: &PackedWeight) -> Self {
        match weight {
            PackedWeight::Fp8(weight @ Fp8 { width, block: (_, block), .. })
                if width.is_multiple_of(16)
                    && (block.is_multiple_of(16) || block >= width)
                    && !weight.has_nan() =>
            {
                Self::E4m3 { block: *block }
            }
            PackedWeight::Nf4(Nf4 { width, block, table, .. })
                if width.is_multiple_of(*block) && block.is_multiple_of(16) =>
            {
                Self::Nf4 { block: *block, table: *table }
            }
            PackedWeight::Nvfp4(_) => Self::Nvfp4,
            _ => Self::Rows,
        }
    }
}

/// A view of [`PackedRows`] whose parts have one encoding.
struct CodedParts<'a, C> {
    rows: &'a PackedRows,
    code: C,
    block: usize,
}

impl<C: Code> CodedRows for CodedParts<'_, C> {
    type Code = C;

    fn code(&self) -> C {
        self.code
    }

    fn block(&self) -> usize {
        self.block
    }

    fn row<'a>(&'a self, row: usize, buffer: &'a mut [f32]) -> CodedRow<'a> {
        let (row, weight) = self.rows.part(row);
        match weight {
            PackedWeight::Fp8(weight) => weight.coded_row(row),
            PackedWeight::Nf4(weight) => weight.coded_row(row),
            PackedWeight::Nvfp4(weight) => weight.coded_row(row, buffer),
            // No other encoding has coded rows: the kernel finds an empty row and panics.
            PackedWeight::Ggml(_) => CodedRow::default(),
        }
    }
}

impl PackedRows {
    pub(crate) fn new(weights: Vec<PackedWeight>) -> Self {
        let width = weights.first().map_or(0, PackedWeight::width);
        assert!(weights.iter().all(|weight| weight.width() == width), "weights of several widths");
        let mut rows = 0;
        let mut parts = Vec::with_capacity(weights.len());
        for weight in weights {
            let first = rows;
            rows += weight.rows();
            parts.push((first, weight));
        }
        let mut forms = parts.iter().map(|(_, weight)| Encoding::of(weight));
        let first = forms.next().unwrap_or(Encoding::Rows);
        let encoding = if forms.all(|encoding| encoding == first) { first } else { Encoding::Rows };
        Self { parts, rows, width, encoding }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &PackedWeight> {
        self.parts.iter().map(|(_, weight)| weight)
    }

    /// Writes the values of row `row` to `out` `[width]`.
    pub(crate) fn decode_row(&self, row: usize, out: &mut [f32]) {
        let (row, weight) = self.part(row);
        weight.decode_row(row, out);
    }

    /// The part that has row `row`, and the row's number in it.
    fn part(&self, row: usize) -> (usize, &PackedWeight) {
        let part = self.parts.partition_point(|(first, _)| *first <= row) - 1;
        let (first, weight) = &self.parts[part];
        (row - first, weight)
    }

    /// `[…, width]` times these rows → `[…, rows]` in the input's type, bias added; decodes during the
    /// multiplication, which pays for few rows of input. `None` on another device or for another type.
    pub(crate) fn few_rows(&self, input: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
        match &self.encoding {
            Encoding::E4m3 { block } => coded_rows(input, self.rows, bias, &self.coded(E4m3, *block)),
            Encoding::Nf4 { block, table } => {
                coded_rows(input, self.rows, bias, &self.coded(HighFirst(table), *block))
            }
            Encoding::Nvfp4 => {
                coded_rows(input, self.rows, bias, &self.coded(LowFirst(&nvfp4::TABLE), nvfp4::BLOCK))
            }
            Encoding::Rows => {
                linear_decoded_rows(input, self.rows, bias, |row, out| self.decode_row(row, out))
            }
        }
    }

    fn coded<C: Code>(&self, code: C, block: usize) -> CodedParts<'_, C> {
        CodedParts { rows: self, code, block }
    }

    /// Rows `first..first + count` in `kind`.
    pub(crate) fn dense(&self, first: usize, count: usize, kind: Kind) -> Result<Tensor, TensorError> {
        let output = Tensor::f_empty([count as i64, self.width as i64], (kind, Device::Cpu))?;
        match kind {
            Kind::BFloat16 => self.write(first, host::slice_mut::<bf16>(&output)),
            Kind::Half => self.write(first, host::slice_mut::<f16>(&output)),
            Kind::Float => self.write(first, host::slice_mut::<f32>(&output)),
            other => return Ok(self.dense(first, count, Kind::Float)?.f_to_kind(other)?),
        }
        Ok(output)
    }

    fn write<T: LaneFloat>(&self, start: usize, output: &mut [T]) {
        let width = self.width.max(1);
        parallel::rows(output, self.width, |first, output| {
            let first = start + first;
            match &self.encoding {
                Encoding::E4m3 { block } => widen_rows(&self.coded(E4m3, *block), first, width, output),
                Encoding::Nf4 { block, table } => {
                    widen_rows(&self.coded(HighFirst(table), *block), first, width, output);
                }
                Encoding::Nvfp4 => {
                    let code = LowFirst(&nvfp4::TABLE);
                    widen_rows(&self.coded(code, nvfp4::BLOCK), first, width, output);
                }
                Encoding::Rows => self.write_rows(first, output),
            }
        });
    }

    fn write_rows<T: HostFloat>(&self, first: usize, output: &mut [T]) {
        let mut values = vec![0f32; self.width];
        for (row, output) in (first..).zip(output.chunks_mut(self.width.max(1))) {
            self.decode_row(row, &mut values);
            crate::simd::vectorized(|| {
                for (output, &value) in output.iter_mut().zip(&values) {
                    *output = T::narrow(value);
                }
            });
        }
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        self.parts().map(PackedWeight::resident_bytes).sum()
    }
}
