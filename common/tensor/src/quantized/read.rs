//! Recognises the format of a linear layer by its tensors, and reads it.

use serde::Deserialize;
use tch::{Kind, Tensor};
use videosdgx_gguf::GgmlType;

use super::nvfp4::GlobalScale;
use super::{Fp8, Ggml, HostWeight, Nf4, Nvfp4, PackedWeight, allocate, nvfp4};
use crate::{Checkpoint, CheckpointError, StoredDtype, TensorEntry, TensorError};

/// Side of the blocks that share a scale in published FP8 checkpoints.
const SCALE_BLOCK: usize = 128;
/// Longest `quant_state` of bitsandbytes, in bytes; real ones have about 150.
const MAX_STATE_BYTES: u64 = 64 << 10;

/// The scales of an FP8 weight: of DeepSeek and Qwen, of compressed-tensors and Model Optimizer, of ComfyUI.
const FP8_SCALES: [&str; 3] = ["weight_scale_inv", "weight_scale", "scale_weight"];
/// ComfyUI's JSON about a weight's format.
const COMFY_FORMAT: &str = "comfy_quant";
/// The only format of [`COMFY_FORMAT`] whose tensors are those of another known layout.
const COMFY_FP8: &str = "float8_e4m3fn";

/// bitsandbytes' JSON beside an NF4 weight.
pub(super) const QUANT_STATE: &str = "weight.quant_state.bitsandbytes__nf4";
/// This crate's name for ggml's Q4_1 in a safetensors file, `[outputs, bytes]`; no published layout has one.
pub(super) const Q4_1: &str = "weight_q4_1";

/// Whether `checkpoint` has a linear layer `name` in any format.
pub(crate) fn contains(checkpoint: &Checkpoint, name: &str) -> bool {
    ["weight", "weight_packed", Q4_1]
        .iter()
        .any(|suffix| checkpoint.entry(&format!("{name}.{suffix}")).is_some())
}

/// Reads the linear layer `name`, `[outputs, inputs]`; adds the names of all its tensors to `used`.
///
/// # Errors
/// [`CheckpointError::Invalid`] with the file when a tensor is missing, has another shape, or has a format that is
/// not supported.
pub(crate) fn read(
    checkpoint: &Checkpoint,
    name: &str,
    [outputs, inputs]: [i64; 2],
    used: &mut Vec<String>,
) -> Result<HostWeight, TensorError> {
    let invalid = |_| checkpoint.invalid(name, "a negative size was requested");
    let rows = usize::try_from(outputs).map_err(invalid)?;
    let width = usize::try_from(inputs).map_err(invalid)?;
    Reading { checkpoint, name, rows, width, used }.stored()
}

/// Reads weight `index` of the stack `name`, `[count, outputs, inputs]`, of a GGUF file.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_slice(
    checkpoint: &Checkpoint,
    name: &str,
    index: i64,
    shape: [i64; 3],
) -> Result<HostWeight, TensorError> {
    let entry = checkpoint.entry(name).ok_or_else(|| checkpoint.invalid(name, "is not in the checkpoint"))?;
    if entry.shape != shape {
        let reason = format!("has shape {:?}, the configuration requires {shape:?}", entry.shape);
        return Err(checkpoint.invalid(name, reason).into());
    }
    let slice = checkpoint.read_rows(name, &[index])?.f_squeeze_dim(0)?;
    match entry.kind {
        StoredDtype::Packed(kind) => {
            let slice = slice.f_contiguous()?;
            let bytes = crate::host::slice::<u8>(&slice);
            let mut pages = allocate(bytes.len() as u64)?;
            pages.bytes_mut().copy_from_slice(bytes);
            let size = |size: i64| usize::try_from(size).unwrap_or(0);
            let weight = Ggml::new(kind, size(shape[1]), size(shape[2]), pages);
            let refused = || checkpoint.invalid(name, format!("ggml's {kind} is not supported")).into();
            weight.map(|weight| HostWeight::Packed(PackedWeight::Ggml(weight))).ok_or_else(refused)
        }
        StoredDtype::F64 | StoredDtype::F32 | StoredDtype::F16 | StoredDtype::Bf16 => {
            Ok(HostWeight::Dense(slice))
        }
        other => Err(checkpoint.invalid(name, format!("is stored as {other:?}")).into()),
    }
}

/// Reads the rows `rows` of the table `full`, multiplied by their scales if it is stored in 8 bits; adds the names of
/// its tensors to `used`.
///
/// # Errors
/// As [`read`]; also for a table in packed blocks.
pub(crate) fn read_rows(
    checkpoint: &Checkpoint,
    full: &str,
    rows: &[i64],
    used: &mut Vec<String>,
) -> Result<Tensor, TensorError> {
    let entry = checkpoint.entry(full).ok_or_else(|| checkpoint.invalid(full, "is not in the checkpoint"))?;
    let kind = entry.kind;
    let name = full.strip_suffix(".weight").unwrap_or(full);
    let size = |at: usize| usize::try_from(entry.shape.get(at).copied().unwrap_or(1)).unwrap_or(0);
    let mut reading = Reading { checkpoint, name, rows: size(0), width: size(1), used };
    let scale = match kind {
        StoredDtype::F64 | StoredDtype::F32 | StoredDtype::F16 | StoredDtype::Bf16 => {
            reading.refuse_scales(kind)?;
            None
        }
        StoredDtype::F8E4M3 => Some(reading.fp8_scales()?),
        other => {
            return Err(checkpoint
                .invalid(full, format!("is stored as {other:?}, not as floating point"))
                .into());
        }
    };
    let table = checkpoint.read_rows(full, rows)?;
    reading.used.push(full.to_owned());
    let Some((scales, (block_rows, block_columns))) = scale else { return Ok(table) };
    let across = reading.width.div_ceil(block_columns);
    let grid = Tensor::from_slice(&scales).f_view([-1, across as i64])?;
    let block_of = |row: &i64| usize::try_from(*row).unwrap_or(0).checked_div(block_rows).unwrap_or(0) as i64;
    let blocks: Vec<i64> = rows.iter().map(block_of).collect();
    let scales = grid.f_index_select(0, &Tensor::from_slice(&blocks))?;
    let scales = scales.f_repeat_interleave_self_int(block_columns as i64, 1_i64, None::<i64>)?;
    Ok(table.f_to_kind(Kind::Float)?.f_mul(&scales.f_narrow(1, 0, reading.width as i64)?)?)
}

/// The scale of an 8-bit tensor `name` that is no matrix, such as the kernel of a convolution: one number.
///
/// # Errors
/// [`CheckpointError::Invalid`] when it has none, or several.
pub(crate) fn single_scale(
    checkpoint: &Checkpoint,
    name: &str,
    used: &mut Vec<String>,
) -> Result<f64, TensorError> {
    let layer = name.strip_suffix(".weight").unwrap_or(name);
    let mut reading = Reading { checkpoint, name: layer, rows: 1, width: 1, used };
    let scale = reading.fp8_scale_name(name)?;
    let scale = reading.floats(scale, 1)?;
    Ok(scale.first().copied().map_or(1.0, f64::from))
}

struct Reading<'a> {
    checkpoint: &'a Checkpoint,
    name: &'a str,
    rows: usize,
    width: usize,
    used: &'a mut Vec<String>,
}

/// The JSON that bitsandbytes stores beside a weight.
#[derive(Deserialize)]
struct QuantState {
    quant_type: String,
    blocksize: usize,
    shape: Vec<u64>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

impl Reading<'_> {
    fn stored(mut self) -> Result<HostWeight, TensorError> {
        for ours in ["input_scale", "input_global_scale", "scale_input"] {
            // Scales of activations are not used: activations are rounded while computing.
            if let Some(name) = self.existing(ours) {
                self.used.push(name);
            }
        }
        self.check_comfy_format()?;
        if self.existing(Q4_1).is_some() {
            return self.q4_1();
        }
        if self.existing("weight_packed").is_some() {
            return self.nvfp4_compressed_tensors();
        }
        if self.existing("qweight").is_some() {
            return Err(self.refuse("qweight", "GPTQ and AWQ weights are not supported"));
        }
        if self.existing("weight.absmax").is_some() {
            return self.nf4();
        }
        if self.existing("weight_scale_2").is_some() && self.entry("weight")?.kind == StoredDtype::U8 {
            return self.nvfp4_model_optimizer();
        }
        match self.entry("weight")?.kind {
            StoredDtype::F8E4M3 => self.fp8(),
            StoredDtype::Packed(kind) => self.ggml(kind),
            _ => self.dense(),
        }
    }

    fn dense(&mut self) -> Result<HostWeight, TensorError> {
        use StoredDtype::{Bf16, F16, F32, F64};
        self.expect_shape("weight", &[self.rows, self.width])?;
        let kind = self.entry("weight")?.kind;
        if !matches!(kind, F64 | F32 | F16 | Bf16) {
            return Err(self.refuse("weight", format!("is stored as {kind:?}, not as floating point")));
        }
        self.refuse_scales(kind)?;
        Ok(HostWeight::Dense(self.tensor("weight")?))
    }

    fn ggml(&mut self, kind: GgmlType) -> Result<HostWeight, TensorError> {
        self.expect_shape("weight", &[self.rows, self.width])?;
        if Ggml::format_of(kind).is_none() {
            let reason = format!(
                "ggml's {kind} is not supported; Q4_0, Q4_1, Q8_0, Q4_K, Q6_K, F16, BF16 and F32 are"
            );
            return Err(self.refuse("weight", reason));
        }
        let bytes = self.bytes("weight")?;
        let weight = Ggml::new(kind, self.rows, self.width, bytes);
        weight
            .map(|weight| HostWeight::Packed(PackedWeight::Ggml(weight)))
            .ok_or_else(|| self.refuse("weight", "is truncated"))
    }

    fn q4_1(&mut self) -> Result<HostWeight, TensorError> {
        let bytes = self.bytes(Q4_1)?;
        let weight = Ggml::new(GgmlType::Q4_1, self.rows, self.width, bytes);
        let reason = format!("is not {} rows of {} values", self.rows, self.width);
        weight
            .map(|weight| HostWeight::Packed(PackedWeight::Ggml(weight)))
            .ok_or_else(|| self.refuse(Q4_1, reason))
    }

    fn fp8(&mut self) -> Result<HostWeight, TensorError> {
        self.expect_shape("weight", &[self.rows, self.width])?;
        let (scales, block) = self.fp8_scales()?;
        let codes = self.bytes("weight")?;
        Ok(HostWeight::Packed(PackedWeight::Fp8(Fp8::new(self.rows, self.width, codes, scales, block))))
    }

    /// The scales of the weight, and the rows and columns that share one.
    fn fp8_scales(&mut self) -> Result<(Vec<f32>, (usize, usize)), TensorError> {
        let scale = self.fp8_scale_name(&self.full("weight"))?;
        let block = self.scale_block(scale)?;
        let grid = self.rows.div_ceil(block.0) * self.width.div_ceil(block.1);
        Ok((self.floats(scale, grid)?, block))
    }

    /// The name of the scales of `tensor`. Without a scale that is known the values would be wrong: the codes alone are not.
    fn fp8_scale_name(&self, tensor: &str) -> Result<&'static str, TensorError> {
        let known: Vec<&'static str> =
            FP8_SCALES.into_iter().filter(|scale| self.existing(scale).is_some()).collect();
        match known.as_slice() {
            [only] => Ok(*only),
            [] => {
                let own = format!("{}.", self.name);
                let names =
                    self.checkpoint.names().filter(|name| name.starts_with(&own) && name.contains("scale"));
                let mut others: Vec<&str> = names.collect();
                others.sort_unstable();
                let found = if others.is_empty() { "no scale".to_owned() } else { others.join(", ") };
                let reason = format!(
                    "is stored in 8 bits (F8_E4M3) with {found}; known scales are {}",
                    FP8_SCALES.join(", ")
                );
                Err(self.checkpoint.invalid(tensor, reason).into())
            }
            several => {
                let reason = format!("has several scales: {}", several.join(", "));
                Err(self.checkpoint.invalid(tensor, reason).into())
            }
        }
    }

    /// Refuses scales beside a weight that is not quantised.
    fn refuse_scales(&self, kind: StoredDtype) -> Result<(), TensorError> {
        match FP8_SCALES.into_iter().find(|scale| self.existing(scale).is_some()) {
            Some(scale) => {
                Err(self.refuse("weight", format!("is stored as {kind:?} and has scales ({scale})")))
            }
            None => Ok(()),
        }
    }

    /// Refuses the formats of ComfyUI whose tensors have the names of other layouts, but another arrangement.
    fn check_comfy_format(&mut self) -> Result<(), TensorError> {
        #[derive(Deserialize)]
        struct Format {
            format: String,
        }
        let Some(name) = self.existing(COMFY_FORMAT) else { return Ok(()) };
        if self.entry(COMFY_FORMAT)?.bytes > MAX_STATE_BYTES {
            return Err(self.refuse(COMFY_FORMAT, format!("is longer than {MAX_STATE_BYTES} bytes")));
        }
        let json = self.bytes(COMFY_FORMAT)?;
        match serde_json::from_slice::<Format>(json.bytes()) {
            Ok(Format { format }) if format == COMFY_FP8 => Ok(()),
            Ok(Format { format }) => {
                let reason = format!("is {format:?}; of ComfyUI's formats only {COMFY_FP8:?} is supported");
                Err(self.checkpoint.invalid(&name, reason).into())
            }
            Err(error) => Err(self.checkpoint.invalid(&name, error).into()),
        }
    }

    /// Rows and columns that share a scale, derived from the shape of the scales: the tensor, an output, or a block
    /// of 128 × 128.
    fn scale_block(&self, scale: &str) -> Result<(usize, usize), TensorError> {
        let shape = &self.entry(scale)?.shape;
        let side = |count: Option<&i64>, size: usize| match usize::try_from(count.copied().unwrap_or(1)) {
            Ok(1) => Some(size.max(1)),
            Ok(count) if count == size => Some(1),
            Ok(count) if count == size.div_ceil(SCALE_BLOCK) => Some(SCALE_BLOCK),
            _ => None,
        };
        let block = match shape.len() {
            0..=2 => side(shape.first(), self.rows).zip(side(shape.get(1), self.width)),
            _ => None,
        };
        block.ok_or_else(|| {
            let reason = format!(
                "has shape {shape:?}; supported are one scale, one for each output, or one for each block of {SCALE_BLOCK} × {SCALE_BLOCK}"
            );
            self.refuse(scale, reason)
        })
    }

    fn nvfp4_model_optimizer(&mut self) -> Result<HostWeight, TensorError> {
        let global = self.floats("weight_scale_2", 1)?;
        self.nvfp4("weight", GlobalScale::Times(global[0]))
    }

    fn nvfp4_compressed_tensors(&mut self) -> Result<HostWeight, TensorError> {
        if self.existing("weight_global_scale").is_none() {
            return Err(
                self.refuse("weight_packed", "of compressed-tensors' packed formats only NVFP4 is supported")
            );
        }
        let global = self.floats("weight_global_scale", 1)?;
        self.nvfp4("weight_packed", GlobalScale::Over(global[0]))
    }

    fn nvfp4(&mut self, codes: &str, global: GlobalScale) -> Result<HostWeight, TensorError> {
        if !self.width.is_multiple_of(nvfp4::BLOCK) {
            let reason = format!("rows of {} are not whole blocks of {}", self.width, nvfp4::BLOCK);
            return Err(self.refuse(codes, reason));
        }
        for (name, kind, width) in [
            (codes, StoredDtype::U8, self.width / 2),
            ("weight_scale", StoredDtype::F8E4M3, self.width / nvfp4::BLOCK),
        ] {
            self.expect_shape(name, &[self.rows, width])?;
            if self.entry(name)?.kind != kind {
                return Err(self.refuse(name, format!("is not stored as {kind:?}")));
            }
        }
        let (codes, scales) = (self.bytes(codes)?, self.bytes("weight_scale")?);
        Ok(HostWeight::Packed(PackedWeight::Nvfp4(Nvfp4::new(
            (self.rows, self.width),
            codes,
            scales,
            global,
        ))))
    }

    fn nf4(&mut self) -> Result<HostWeight, TensorError> {
        let state = self.quant_state()?;
        let Some(count) = self.rows.checked_mul(self.width) else {
            return Err(self.refuse("weight", "is larger than the address space"));
        };
        if state.shape.iter().map(|&size| size as usize).ne([self.rows, self.width]) {
            let reason = format!(
                "has shape {:?}, the configuration requires {:?}",
                state.shape,
                [self.rows, self.width]
            );
            return Err(self.refuse("weight", reason));
        }
        if state.quant_type != "nf4" {
            return Err(
                self.refuse("weight", format!("bitsandbytes' {:?} is not supported", state.quant_type))
            );
        }
        let sizes = [Some(state.blocksize), state.nested_blocksize];
        if sizes.into_iter().flatten().any(|size| !size.is_power_of_two() || !(2..=65_536).contains(&size)) {
            return Err(self.refuse("weight", format!("blocks of {sizes:?} values")));
        }
        if self.entry("weight")?.bytes != count.div_ceil(2) as u64 {
            return Err(self.refuse("weight", format!("does not hold {count} values, two in each byte")));
        }
        let mut table = [0f32; 16];
        table.copy_from_slice(&self.floats("weight.quant_map", 16)?);
        let blocks = count.div_ceil(state.blocksize);
        let absmax = match state.nested_blocksize {
            Some(size) => self.nested_absmax(blocks, size, state.nested_offset.unwrap_or(0.0))?,
            None => self.floats("weight.absmax", blocks)?,
        };
        let codes = self.bytes("weight")?;
        let shape = (self.rows, self.width);
        Ok(HostWeight::Packed(PackedWeight::Nf4(Nf4::new(shape, codes, absmax, state.blocksize, table))))
    }

    /// Scales that are quantised themselves: `map[u8] · nested_absmax + offset`.
    fn nested_absmax(&mut self, blocks: usize, size: usize, offset: f32) -> Result<Vec<f32>, TensorError> {
        let entry = self.entry("weight.absmax")?;
        if entry.kind != StoredDtype::U8 || entry.bytes != blocks as u64 {
            return Err(self.refuse("weight.absmax", format!("is not {blocks} bytes")));
        }
        let codes = self.bytes("weight.absmax")?;
        let map = self.floats("weight.nested_quant_map", 256)?;
        let outer = self.floats("weight.nested_absmax", blocks.div_ceil(size))?;
        let scales = codes.bytes().chunks(size).zip(outer);
        Ok(scales
            .flat_map(|(codes, scale)| {
                codes.iter().map(|&code| map[usize::from(code)] * scale + offset).collect::<Vec<_>>()
            })
            .collect())
    }

    fn quant_state(&mut self) -> Result<QuantState, TensorError> {
        let name = QUANT_STATE;
        if self.existing(name).is_none() {
            return Err(self.refuse("weight", "has bitsandbytes scales and is not nf4"));
        }
        if self.entry(name)?.bytes > MAX_STATE_BYTES {
            return Err(self.refuse(name, format!("is longer than {MAX_STATE_BYTES} bytes")));
        }
        let json = self.bytes(name)?;
        serde_json::from_slice(json.bytes()).map_err(|error| self.refuse(name, error))
    }

    /// Exactly `count` numbers that are stored as floating point, in f32.
    fn floats(&mut self, suffix: &str, count: usize) -> Result<Vec<f32>, TensorError> {
        let entry = self.entry(suffix)?;
        let floating =
            matches!(entry.kind, StoredDtype::F32 | StoredDtype::F16 | StoredDtype::Bf16 | StoredDtype::F64);
        let elements = entry.shape.iter().try_fold(1i64, |product, &size| product.checked_mul(size));
        if !floating || elements.and_then(|elements| usize::try_from(elements).ok()) != Some(count) {
            let reason = format!("is {:?} of {:?}, not {count} numbers", entry.kind, entry.shape);
            return Err(self.refuse(suffix, reason));
        }
        let tensor = self.tensor(suffix)?.f_to_kind(Kind::Float)?.f_reshape([-1])?;
        Ok(Vec::try_from(tensor)?)
    }

    fn tensor(&mut self, suffix: &str) -> Result<Tensor, TensorError> {
        let name = self.full(suffix);
        let tensor = self.checkpoint.read(&name)?;
        self.used.push(name);
        Ok(tensor)
    }

    fn bytes(&mut self, suffix: &str) -> Result<crate::cpu::Pages, TensorError> {
        let name = self.full(suffix);
        let mut pages = allocate(self.entry(suffix)?.bytes)?;
        self.checkpoint.read_bytes(&name, pages.bytes_mut())?;
        self.used.push(name);
        Ok(pages)
    }

    fn expect_shape(&self, suffix: &str, shape: &[usize]) -> Result<(), TensorError> {
        let found = &self.entry(suffix)?.shape;
        if found.iter().map(|&size| usize::try_from(size).ok()).ne(shape.iter().map(|&size| Some(size))) {
            let reason = format!("has shape {found:?}, the configuration requires {shape:?}");
            return Err(self.refuse(suffix, reason));
        }
        Ok(())
    }

    fn entry(&self, suffix: &str) -> Result<&TensorEntry, CheckpointError> {
        let name = self.full(suffix);
        self.checkpoint.entry(&name).ok_or_else(|| self.checkpoint.invalid(&name, "is not in the checkpoint"))
    }

    fn existing(&self, suffix: &str) -> Option<String> {
        Some(self.full(suffix)).filter(|name| self.checkpoint.entry(name).is_some())
    }

    fn full(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.name)
    }

    fn refuse(&self, suffix: &str, reason: impl std::fmt::Display) -> TensorError {
        self.checkpoint.invalid(&self.full(suffix), reason).into()
    }
}
