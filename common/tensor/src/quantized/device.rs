//! The packed formats widened by libtorch's operators, as on a GPU. Tested on the CPU against the CPU kernels; not
//! yet run on a GPU.

use tch::{Device, Kind, Tensor};
use videosdgx_gguf::GgmlType;

use super::nvfp4::{self, GlobalScale};
use super::{Ggml, PackedWeight};

/// A packed weight `[rows, width]` on a device.
pub(crate) enum DeviceMatrix {
    Fp8 {
        /// `[rows, width]` e4m3.
        codes: Tensor,
        /// `[⌈rows / block.0⌉, ⌈width / block.1⌉]` f32.
        scales: Tensor,
        block: (i64, i64),
    },
    /// Nf4 and Nvfp4.
    Table {
        /// `[rows, width / 2]` bytes.
        codes: Tensor,
        high_first: bool,
        /// `[16]` f32.
        table: Tensor,
        /// `[rows, width / block]`: f32, or e4m3 with a global scale.
        scales: Tensor,
        global: Option<GlobalScale>,
        block: i64,
    },
    Ggml {
        kind: GgmlType,
        /// `[rows, bytes]`.
        bytes: Tensor,
    },
}

impl DeviceMatrix {
    /// Moves a weight to `device`; `None` when its rows are not whole blocks (NF4 of an odd shape).
    pub(crate) fn new(weight: &PackedWeight, device: Device) -> Option<Self> {
        let bytes =
            |bytes: &[u8], rows: usize| Tensor::from_slice(bytes).view([rows as i64, -1]).to_device(device);
        let floats = |values: &[f32], rows: usize| {
            Tensor::from_slice(values).view([rows as i64, -1]).to_device(device)
        };
        Some(match weight {
            PackedWeight::Fp8(weight) => Self::Fp8 {
                codes: bytes(weight.codes.bytes(), weight.rows).view_dtype(Kind::Float8e4m3fn),
                scales: floats(&weight.scales, weight.rows.div_ceil(weight.block.0)),
                block: (weight.block.0 as i64, weight.block.1 as i64),
            },
            PackedWeight::Nf4(weight) => {
                if !weight.width.is_multiple_of(weight.block) || !weight.block.is_multiple_of(2) {
                    return None;
                }
                Self::Table {
                    codes: bytes(weight.codes.bytes(), weight.rows),
                    high_first: true,
                    table: Tensor::from_slice(&weight.table).to_device(device),
                    scales: floats(&weight.absmax, weight.rows),
                    global: None,
                    block: weight.block as i64,
                }
            }
            PackedWeight::Nvfp4(weight) => Self::Table {
                codes: bytes(weight.codes.bytes(), weight.rows),
                high_first: false,
                table: Tensor::from_slice(&nvfp4::TABLE).to_device(device),
                scales: bytes(weight.scales.bytes(), weight.rows).view_dtype(Kind::Float8e4m3fn),
                global: Some(weight.global),
                block: nvfp4::BLOCK as i64,
            },
            PackedWeight::Ggml(weight) => {
                Self::Ggml { kind: weight.kind, bytes: bytes(weight.bytes.bytes(), weight.rows) }
            }
        })
    }

    /// A second handle to the same memory.
    pub(crate) fn shared(&self) -> Self {
        match self {
            Self::Fp8 { codes, scales, block } => {
                Self::Fp8 { codes: codes.shallow_clone(), scales: scales.shallow_clone(), block: *block }
            }
            Self::Table { codes, high_first, table, scales, global, block } => Self::Table {
                codes: codes.shallow_clone(),
                high_first: *high_first,
                table: table.shallow_clone(),
                scales: scales.shallow_clone(),
                global: *global,
                block: *block,
            },
            Self::Ggml { kind, bytes } => Self::Ggml { kind: *kind, bytes: bytes.shallow_clone() },
        }
    }

    pub(crate) fn rows(&self) -> i64 {
        match self {
            Self::Fp8 { codes, .. } | Self::Table { codes, .. } => codes.size()[0],
            Self::Ggml { bytes, .. } => bytes.size()[0],
        }
    }

    /// Rows `first..first + count` in `kind`.
    pub(crate) fn dense(&self, first: i64, count: i64, kind: Kind) -> Tensor {
        self.rows_at(&|tensor| tensor.narrow(0, first, count), &|tensor, block| {
            let rows = Tensor::arange_start(first, first + count, (Kind::Int64, tensor.device()));
            tensor.index_select(0, &rows.divide_scalar_mode(block, "floor"))
        })
        .to_kind(kind)
    }

    /// Rows `ids` `[n]` in `kind`.
    pub(crate) fn select(&self, ids: &Tensor, kind: Kind) -> Tensor {
        self.rows_at(&|tensor| tensor.index_select(0, ids), &|tensor, block| {
            tensor.index_select(0, &ids.divide_scalar_mode(block, "floor"))
        })
        .to_kind(kind)
    }

    /// Rows in f32: `take` selects from tensors with an entry for each row, `take_block` from those with an entry for
    /// several.
    fn rows_at(
        &self,
        take: &dyn Fn(&Tensor) -> Tensor,
        take_block: &dyn Fn(&Tensor, i64) -> Tensor,
    ) -> Tensor {
        match self {
            Self::Fp8 { codes, scales, block } => {
                // A view as bytes: not every operator supports 8-bit floats.
                let bytes = take(&codes.view_dtype(Kind::Uint8));
                let values = bytes.view_dtype(Kind::Float8e4m3fn).to_kind(Kind::Float);
                let width = values.size()[1];
                let scales = take_block(scales, block.0).repeat_interleave_self_int(block.1, 1, None);
                values * scales.narrow(1, 0, width)
            }
            Self::Table { codes, high_first, table, scales, global, block } => {
                let codes = take(codes);
                let (rows, width) = (codes.size()[0], 2 * codes.size()[1]);
                let (low, high) = nibbles(&codes);
                let pair = if *high_first { [high, low] } else { [low, high] };
                let places = Tensor::stack(&pair, -1).reshape([-1]).to_kind(Kind::Int);
                let values = table.index_select(0, &places).view([rows, -1, *block]);
                let scales = match global {
                    None => take(scales),
                    Some(global) => {
                        let bytes = take(&scales.view_dtype(Kind::Uint8));
                        let scales = bytes.view_dtype(Kind::Float8e4m3fn).to_kind(Kind::Float);
                        match *global {
                            GlobalScale::Times(global) => scales * on_device_of(&bytes, global),
                            // Division by a tensor: on a GPU, dividing by a number is multiplying by its rounded
                            // inverse.
                            GlobalScale::Over(global) => scales / on_device_of(&bytes, global),
                        }
                    }
                };
                (values * scales.unsqueeze(-1)).view([rows, width])
            }
            Self::Ggml { kind, bytes } => ggml(*kind, &take(bytes)),
        }
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        use crate::linear::tensor_bytes;
        match self {
            Self::Fp8 { codes, scales, .. } => tensor_bytes(codes) + tensor_bytes(scales),
            Self::Table { codes, scales, table, .. } => {
                tensor_bytes(codes) + tensor_bytes(scales) + tensor_bytes(table)
            }
            Self::Ggml { bytes, .. } => tensor_bytes(bytes),
        }
    }
}

fn on_device_of(tensor: &Tensor, value: f32) -> Tensor {
    Tensor::from_slice(&[value]).to_device(tensor.device())
}

/// Low and high nibbles of bytes.
fn nibbles(bytes: &Tensor) -> (Tensor, Tensor) {
    (bytes.bitwise_and(15), shift_right(bytes, 4))
}

fn shift_right(bytes: &Tensor, bits: i64) -> Tensor {
    bytes.bitwise_right_shift_tensor_scalar(bits)
}

fn shift_left(bytes: &Tensor, bits: i64) -> Tensor {
    bytes.bitwise_left_shift_tensor_scalar(bits)
}

/// `[rows, bytes]` → `[rows, values]` f32; `ggml.rs` describes the blocks.
fn ggml(kind: GgmlType, bytes: &Tensor) -> Tensor {
    debug_assert!(Ggml::format_of(kind).is_some());
    let rows = bytes.size()[0];
    let blocks = bytes.reshape([-1, i64::try_from(kind.block_bytes()).unwrap_or(1)]);
    let part = |first: i64, count: i64| blocks.narrow(1, first, count).contiguous();
    let half = |first: i64| part(first, 2).view_dtype(Kind::Half).to_kind(Kind::Float);
    let signed = |first: i64, count: i64| part(first, count).view_dtype(Kind::Int8).to_kind(Kind::Float);
    // Two halves, each with the low nibbles and then the high nibbles of its bytes.
    let spread = |first: i64, halves: i64, count: i64| {
        let (low, high) = nibbles(&part(first, halves * count).view([-1, halves, 1, count]));
        Tensor::cat(&[low, high], 2)
    };
    let values = match kind {
        GgmlType::Q4_0 => half(0) * (spread(2, 1, 16).view([-1, 32]).to_kind(Kind::Float) - 8.0),
        GgmlType::Q4_1 => half(0) * spread(4, 1, 16).view([-1, 32]).to_kind(Kind::Float) + half(2),
        GgmlType::Q8_0 => half(0) * signed(2, 32),
        GgmlType::Q4K => {
            let (first, second, third) = (part(4, 4), part(8, 4), part(12, 4));
            let (low, high) = nibbles(&third);
            let join = |low: &Tensor, rest: Tensor, from: &Tensor| {
                let upper = shift_left(&shift_right(from, 6), 4);
                Tensor::cat(&[low.bitwise_and(63), rest.bitwise_or_tensor(&upper)], 1).to_kind(Kind::Float)
            };
            let scales = half(0) * join(&first, low, &first);
            let minimums = half(2) * join(&second, high, &second);
            let codes = spread(16, 4, 32).view([-1, 8, 32]).to_kind(Kind::Float);
            scales.unsqueeze(-1) * codes - minimums.unsqueeze(-1)
        }
        _ => {
            let low = spread(0, 2, 64).view([-1, 8, 32]);
            let bits = part(128, 64).view([-1, 2, 1, 32]);
            let bits: Vec<Tensor> = (0..4).map(|pair| shift_right(&bits, 2 * pair).bitwise_and(3)).collect();
            let high = shift_left(&Tensor::cat(&bits, 2).view([-1, 8, 32]), 4);
            let codes = low.bitwise_or_tensor(&high).to_kind(Kind::Float) - 32.0;
            (half(208) * signed(192, 16)).unsqueeze(-1) * codes.view([-1, 16, 16])
        }
    };
    values.reshape([rows, -1])
}
