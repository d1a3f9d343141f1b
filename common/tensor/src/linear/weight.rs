//! The in-memory formats of a weight.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::{tensor_bytes, widened};
use crate::quantized::{DeviceMatrix, Ggml, HostWeight, PackedRows, PackedWeight};
use crate::{BlockFormat, BlockMatrix, TensorError, linear_few_rows};

/// Largest number of input rows for which a packed weight is decoded during the multiplication; for more rows it is
/// widened for libtorch's matrix product.
const FEW_ROWS: i64 = 8;

pub(super) enum Weight {
    /// `[out, in]` in the compute type on its device.
    Dense(Tensor),
    /// Integer blocks, on the CPU.
    Blocks(Arc<BlockMatrix>),
    /// Decoded while multiplying, on the CPU.
    Packed(Arc<PackedRows>),
    /// Widened by libtorch's operators, on any device.
    OnDevice(Vec<DeviceMatrix>),
    /// Concatenated along the outputs, each part in its own format.
    Joined(Vec<Weight>),
}

/// Consecutive parts that can be held as one weight.
enum Group {
    Dense(Vec<Tensor>),
    Blocks(BlockFormat, Vec<Ggml>),
    Packed(Vec<PackedWeight>),
}

impl Weight {
    pub(super) fn new(parts: Vec<HostWeight>, kind: Kind, device: Device) -> Result<Self, TensorError> {
        let mut groups: Vec<Group> = Vec::new();
        for part in parts {
            match (part, groups.last_mut()) {
                (HostWeight::Dense(weight), Some(Group::Dense(group))) => group.push(weight),
                (HostWeight::Dense(weight), _) => groups.push(Group::Dense(vec![weight])),
                (HostWeight::Packed(PackedWeight::Ggml(weight)), Some(Group::Blocks(format, group)))
                    if *format == weight.format() =>
                {
                    group.push(weight);
                }
                (HostWeight::Packed(PackedWeight::Ggml(weight)), _) if device == Device::Cpu => {
                    groups.push(Group::Blocks(weight.format(), vec![weight]));
                }
                (HostWeight::Packed(weight), Some(Group::Packed(group))) => group.push(weight),
                (HostWeight::Packed(weight), _) => groups.push(Group::Packed(vec![weight])),
            }
        }
        let mut weights =
            groups.into_iter().map(|group| group.weight(kind, device)).collect::<Result<Vec<_>, _>>()?;
        match (weights.pop(), weights.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                weights.push(last);
                Ok(Self::Joined(weights))
            }
            (None, _) => Err(TensorError::Libtorch("a linear layer without weights".into())),
        }
    }

    /// `[…, in]` → `[…, out]`.
    pub(super) fn linear(&self, input: &Tensor, bias: Option<&Tensor>) -> Tensor {
        match self {
            Self::Dense(weight) => {
                linear_few_rows(input, weight, bias).unwrap_or_else(|| input.linear(weight, bias))
            }
            Self::Blocks(weight) => weight.forward(input, bias),
            Self::Packed(weight) => {
                let rows = weight.rows();
                let few = input.numel() as i64 <= FEW_ROWS * weight.width() as i64;
                few.then(|| weight.few_rows(input, bias)).flatten().unwrap_or_else(|| {
                    widened::linear(input, rows as i64, bias, |first, count| {
                        whole(weight.dense(first as usize, count as usize, input.kind()))
                    })
                })
            }
            Self::OnDevice(weights) => {
                let mut first = 0;
                let part = |weight: &DeviceMatrix| {
                    let rows = weight.rows();
                    let bias = bias.map(|bias| bias.narrow(0, first, rows));
                    first += rows;
                    widened::linear(input, rows, bias.as_ref(), |first, count| {
                        weight.dense(first, count, input.kind())
                    })
                };
                side_by_side(weights.iter().map(part).collect())
            }
            Self::Joined(weights) => {
                let mut first = 0;
                let part = |weight: &Self| {
                    let rows = weight.rows();
                    let bias = bias.map(|bias| bias.narrow(0, first, rows));
                    first += rows;
                    weight.linear(input, bias.as_ref())
                };
                side_by_side(weights.iter().map(part).collect())
            }
        }
    }

    fn rows(&self) -> i64 {
        match self {
            Self::Dense(weight) => weight.size()[0],
            Self::Blocks(weight) => weight.rows() as i64,
            Self::Packed(weight) => weight.rows() as i64,
            Self::OnDevice(weights) => weights.iter().map(DeviceMatrix::rows).sum(),
            Self::Joined(weights) => weights.iter().map(Self::rows).sum(),
        }
    }

    /// Rows `ids` `[n]` (Int64, on the weight's device) → `[n, in]` in `kind`.
    pub(super) fn rows_at(&self, ids: &Tensor, kind: Kind) -> Tensor {
        match self {
            Self::Dense(weight) => weight.index_select(0, ids).to_kind(kind),
            Self::Blocks(weight) => {
                decoded(ids, weight.rows(), weight.width(), |row, out| weight.decode_row(row, out))
                    .to_kind(kind)
            }
            Self::Packed(weight) => {
                decoded(ids, weight.rows(), weight.width(), |row, out| weight.decode_row(row, out))
                    .to_kind(kind)
            }
            Self::OnDevice(weights) if weights.len() == 1 => weights[0].select(ids, kind),
            Self::OnDevice(weights) => {
                let dense: Vec<Tensor> =
                    weights.iter().map(|weight| weight.dense(0, weight.rows(), kind)).collect();
                Tensor::cat(&dense, 0).index_select(0, ids)
            }
            Self::Joined(weights) => {
                let mut first = 0;
                let mut output: Option<Tensor> = None;
                for weight in weights {
                    let rows = weight.rows();
                    let inside = (ids - first).clamp(0, rows - 1);
                    let part = weight.rows_at(&inside, kind);
                    output = Some(match output {
                        None => part,
                        Some(before) => before.where_self(&ids.lt(first).unsqueeze(1), &part),
                    });
                    first += rows;
                }
                output.unwrap_or_else(|| Tensor::empty([0], (kind, ids.device())))
            }
        }
    }

    /// A second handle to the same weight, without a copy.
    pub(super) fn shared(&self) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(weight.shallow_clone()),
            Self::Blocks(weight) => Self::Blocks(Arc::clone(weight)),
            Self::Packed(weight) => Self::Packed(Arc::clone(weight)),
            Self::OnDevice(weights) => Self::OnDevice(weights.iter().map(DeviceMatrix::shared).collect()),
            Self::Joined(weights) => Self::Joined(weights.iter().map(Self::shared).collect()),
        }
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        match self {
            Self::Dense(weight) => tensor_bytes(weight),
            Self::Blocks(weight) => weight.resident_bytes(),
            Self::Packed(weight) => weight.resident_bytes(),
            Self::OnDevice(weights) => weights.iter().map(DeviceMatrix::resident_bytes).sum(),
            Self::Joined(weights) => weights.iter().map(Self::resident_bytes).sum(),
        }
    }
}

impl Group {
    fn weight(self, kind: Kind, device: Device) -> Result<Weight, TensorError> {
        match self {
            Self::Dense(mut parts) => {
                let whole = match (parts.pop(), parts.is_empty()) {
                    (Some(only), true) => only,
                    (Some(last), false) => {
                        parts.push(last);
                        Tensor::f_cat(&parts, 0)?
                    }
                    (None, _) => return Err(TensorError::Libtorch("a linear layer without weights".into())),
                };
                Ok(Weight::Dense(whole.f_to_kind(kind)?.f_to_device(device)?.f_contiguous()?))
            }
            Self::Blocks(format, parts) => Ok(Weight::Blocks(Arc::new(blocks(format, &parts)?))),
            Self::Packed(parts) if device == Device::Cpu => {
                Ok(Weight::Packed(Arc::new(PackedRows::new(parts))))
            }
            Self::Packed(parts) => {
                let on_device: Option<Vec<_>> =
                    parts.iter().map(|part| DeviceMatrix::new(part, device)).collect();
                match on_device {
                    Some(weights) => Ok(Weight::OnDevice(weights)),
                    None => {
                        let rows = PackedRows::new(parts);
                        Ok(Weight::Dense(rows.dense(0, rows.rows(), kind)?.f_to_device(device)?))
                    }
                }
            }
        }
    }
}

/// Blocks of one format, concatenated along the outputs, in the CPU's layout.
fn blocks(format: BlockFormat, parts: &[Ggml]) -> Result<BlockMatrix, TensorError> {
    let ends: Vec<usize> = parts
        .iter()
        .scan(0, |rows, part| {
            *rows += part.rows();
            Some(*rows)
        })
        .collect();
    let width = parts.first().map_or(0, Ggml::width);
    BlockMatrix::build(ends.last().copied().unwrap_or(0), width, format, |row, out| {
        let part = ends.partition_point(|&end| end <= row);
        let first = if part == 0 { 0 } else { ends[part - 1] };
        parts[part].unpack_row(row - first, out);
        Ok(())
    })
}

fn side_by_side(mut parts: Vec<Tensor>) -> Tensor {
    match (parts.pop(), parts.is_empty()) {
        (Some(only), true) => only,
        (Some(last), _) => {
            parts.push(last);
            Tensor::cat(&parts, -1)
        }
        (None, _) => Tensor::empty([0], (Kind::Float, Device::Cpu)),
    }
}

/// Rows `ids`, which `decode` writes → `[n, width]` f32. For a row outside the table this panics, as libtorch's
/// operators do; `catch_libtorch_errors` turns that into an error.
fn decoded(ids: &Tensor, rows: usize, width: usize, decode: impl Fn(usize, &mut [f32])) -> Tensor {
    let output = Tensor::empty([ids.numel() as i64, width as i64], (Kind::Float, Device::Cpu));
    let ids = ids.contiguous();
    for (&id, out) in
        crate::host::slice::<i64>(&ids).iter().zip(crate::host::slice_mut::<f32>(&output).chunks_mut(width))
    {
        let row = usize::try_from(id).ok().filter(|&row| row < rows);
        let Some(row) = row else { panic!("index {id} is outside a table of {rows} rows") };
        decode(row, out);
    }
    output
}

/// Panics when memory for a block of a weight is exhausted, as tch's operators do; `catch_libtorch_errors` turns that
/// into an error.
fn whole(block: Result<Tensor, TensorError>) -> Tensor {
    match block {
        Ok(block) => block,
        Err(error) => panic!("{error}"),
    }
}
