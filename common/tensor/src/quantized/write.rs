//! Writes quantised weights in the published layouts, so that `read` reads them like any other checkpoint.

use std::io;

use serde_json::json;
use videosdgx_gguf::GgmlType;

use super::nvfp4::GlobalScale;
use super::{PackedWeight, nvfp4, read};
use crate::checkpoint::SafetensorsWriter;

/// Writes the linear layer `name`.
///
/// # Errors
/// Errors of the disk; `Unsupported` for a format that is never made while loading.
pub(crate) fn write(writer: &mut SafetensorsWriter, name: &str, weight: &PackedWeight) -> io::Result<()> {
    let mut add = |suffix: &str, dtype: &str, shape: &[usize], bytes: &[u8]| {
        writer.add(&format!("{name}.{suffix}"), dtype, shape, bytes)
    };
    let unsupported = || Err(io::Error::from(io::ErrorKind::Unsupported));
    match weight {
        PackedWeight::Fp8(weight) if weight.block == (1, weight.width) => {
            add("weight", "F8_E4M3", &[weight.rows, weight.width], weight.codes.bytes())?;
            add("weight_scale", "F32", &[weight.rows, 1], &bytes(&weight.scales))
        }
        PackedWeight::Nf4(weight) => {
            let state = json!({
                "quant_type": "nf4",
                "blocksize": weight.block,
                "dtype": "float32",
                "shape": [weight.rows, weight.width],
            });
            let state = state.to_string().into_bytes();
            add("weight", "U8", &[weight.codes.len(), 1], weight.codes.bytes())?;
            add("weight.absmax", "F32", &[weight.absmax.len()], &bytes(&weight.absmax))?;
            add("weight.quant_map", "F32", &[16], &bytes(&weight.table))?;
            add(read::QUANT_STATE, "U8", &[state.len()], &state)
        }
        PackedWeight::Nvfp4(weight) => {
            let GlobalScale::Times(global) = weight.global else { return unsupported() };
            add("weight", "U8", &[weight.rows, weight.width / 2], weight.codes.bytes())?;
            let blocks = weight.width / nvfp4::BLOCK;
            add("weight_scale", "F8_E4M3", &[weight.rows, blocks], weight.scales.bytes())?;
            add("weight_scale_2", "F32", &[], &global.to_le_bytes())
        }
        PackedWeight::Ggml(weight) if weight.kind == GgmlType::Q4_1 => {
            let shape = [weight.rows, weight.bytes.len() / weight.rows.max(1)];
            add(read::Q4_1, "U8", &shape, weight.bytes.bytes())
        }
        PackedWeight::Fp8(_) | PackedWeight::Ggml(_) => unsupported(),
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
