//! Inconsistent tensors of published formats: each is an error that names the file, never a panic, and allocates
//! nothing for data that do not exist.

use std::path::Path;

use rstest::rstest;

use super::*;
use crate::checkpoint::SafetensorsWriter;
use crate::{Checkpoint, CheckpointError};

type TensorOf = (&'static str, &'static str, Vec<usize>, Vec<u8>);

fn nf4(state: &str) -> Vec<TensorOf> {
    vec![
        ("x.weight", "U8", vec![128, 1], vec![0; 128]),
        ("x.weight.absmax", "F32", vec![4], vec![0; 16]),
        ("x.weight.quant_map", "F32", vec![16], vec![0; 64]),
        ("x.weight.quant_state.bitsandbytes__nf4", "U8", vec![state.len()], state.as_bytes().to_vec()),
    ]
}

const STATE: &str = r#"{"quant_type":"nf4","blocksize":64,"dtype":"float32","shape":[4,64]}"#;

fn replaced(mut tensors: Vec<TensorOf>, tensor: TensorOf) -> Vec<TensorOf> {
    tensors.retain(|(name, ..)| *name != tensor.0);
    tensors.push(tensor);
    tensors
}

fn nvfp4() -> Vec<TensorOf> {
    vec![
        ("x.weight", "U8", vec![4, 32], vec![0; 128]),
        ("x.weight_scale", "F8_E4M3", vec![4, 4], vec![0; 16]),
        ("x.weight_scale_2", "F32", vec![], vec![0; 4]),
    ]
}

fn fp8(scale: TensorOf) -> Vec<TensorOf> {
    vec![("x.weight", "F8_E4M3", vec![4, 64], vec![0; 256]), scale]
}

fn load(folder: &Path, tensors: &[TensorOf]) -> Result<HostWeight, TensorError> {
    let path = folder.join("model.safetensors");
    let mut writer = SafetensorsWriter::create(&path).expect("creates");
    for (name, dtype, shape, bytes) in tensors {
        writer.add(name, dtype, shape, bytes).expect("writes");
    }
    writer.finish().expect("finishes");
    read(&Checkpoint::open_file(path)?, "x", [4, 64], &mut Vec::new())
}

#[rstest]
#[case::nothing(vec![], "is not in the checkpoint")]
#[case::integers(vec![("x.weight", "I8", vec![4, 64], vec![0; 256])], "not as floating point")]
#[case::scaled_bf16(vec![("x.weight", "BF16", vec![4, 64], vec![0; 512]), ("x.weight_scale", "F32", vec![], vec![0; 4])], "has scales")]
#[case::gptq(vec![("x.qweight", "I32", vec![8, 4], vec![0; 128])], "GPTQ")]
#[case::packed_integers(vec![("x.weight_packed", "I32", vec![4, 8], vec![0; 128])], "only NVFP4 is supported")]
#[case::fp8_shape(vec![("x.weight", "F8_E4M3", vec![64, 4], vec![0; 256])], "has shape [64, 4]")]
#[case::fp8_grid(fp8(("x.weight_scale_inv", "F32", vec![3, 3], vec![0; 36])), "has shape [3, 3]")]
#[case::fp8_groups(fp8(("x.weight_scale", "F32", vec![4, 2], vec![0; 32])), "has shape [4, 2]")]
#[case::fp8_rank(fp8(("x.weight_scale", "F32", vec![1, 1, 1], vec![0; 4])), "has shape [1, 1, 1]")]
#[case::fp8_integers(fp8(("x.weight_scale", "I32", vec![1], vec![0; 4])), "not 1 numbers")]
#[case::fp8_empty(fp8(("x.weight_scale", "F32", vec![0], vec![])), "has shape [0]")]
#[case::nvfp4_codes(replaced(nvfp4(), ("x.weight", "U8", vec![4, 64], vec![0; 256])), "has shape [4, 64]")]
#[case::nvfp4_scales(replaced(nvfp4(), ("x.weight_scale", "U8", vec![4, 4], vec![0; 16])), "not stored as F8E4M3")]
#[case::nvfp4_global(replaced(nvfp4(), ("x.weight_scale_2", "F32", vec![2], vec![0; 8])), "not 1 numbers")]
#[case::nf4_shape(nf4(r#"{"quant_type":"nf4","blocksize":64,"shape":[4,65]}"#), "has shape [4, 65]")]
#[case::nf4_huge_shape(
    nf4(r#"{"quant_type":"nf4","blocksize":64,"shape":[18446744073709551615,18446744073709551615]}"#),
    "has shape"
)]
#[case::nf4_type(nf4(r#"{"quant_type":"fp4","blocksize":64,"shape":[4,64]}"#), "\"fp4\" is not supported")]
#[case::nf4_no_blocks(nf4(r#"{"quant_type":"nf4","blocksize":0,"shape":[4,64]}"#), "blocks of")]
#[case::nf4_odd_blocks(nf4(r#"{"quant_type":"nf4","blocksize":3,"shape":[4,64]}"#), "blocks of")]
#[case::nf4_huge_blocks(
    nf4(r#"{"quant_type":"nf4","blocksize":9223372036854775808,"shape":[4,64]}"#),
    "blocks of"
)]
#[case::nf4_no_nested_blocks(
    nf4(r#"{"quant_type":"nf4","blocksize":64,"nested_blocksize":0,"shape":[4,64]}"#),
    "blocks of"
)]
#[case::nf4_fewer_scales(nf4(r#"{"quant_type":"nf4","blocksize":32,"shape":[4,64]}"#), "not 8 numbers")]
#[case::nf4_not_nested(
    nf4(r#"{"quant_type":"nf4","blocksize":64,"nested_blocksize":256,"nested_offset":0.5,"shape":[4,64]}"#),
    "is not 4 bytes"
)]
#[case::nf4_json(nf4("{"), "EOF")]
#[case::nf4_deep(nf4(&"[".repeat(60_000)), "invalid type")]
#[case::nf4_long(nf4(&" ".repeat(70_000)), "is longer than")]
#[case::nf4_no_state(nf4(STATE).into_iter().take(3).collect(), "is not nf4")]
#[case::nf4_short(replaced(nf4(STATE), ("x.weight", "U8", vec![127, 1], vec![0; 127])), "256 values, two in each byte")]
#[case::nf4_map(replaced(nf4(STATE), ("x.weight.quant_map", "F32", vec![15], vec![0; 60])), "not 16 numbers")]
#[case::own(vec![("x.weight_q4_1", "U8", vec![4, 39], vec![0; 156])], "is not 4 rows of 64 values")]
fn inconsistent_tensors_are_rejected(#[case] tensors: Vec<TensorOf>, #[case] reason: &str) {
    let folder = tempfile::tempdir().expect("folder");
    match load(folder.path(), &tensors).err().expect("refused") {
        TensorError::Checkpoint(error @ CheckpointError::Invalid { .. }) => {
            let error = error.to_string();
            assert!(error.contains(reason) && error.contains("\"x"), "{error}");
        }
        other => panic!("{other}"),
    }
}

#[rstest]
#[case(nf4(STATE))]
#[case(nvfp4())]
#[case(fp8(("x.weight_scale", "F32", vec![], vec![0; 4])))]
#[case(fp8(("x.weight_scale", "BF16", vec![4], vec![0; 8])))]
fn consistent_tensors_are_read(#[case] tensors: Vec<TensorOf>) {
    let folder = tempfile::tempdir().expect("folder");
    assert!(matches!(load(folder.path(), &tensors).expect("reads"), HostWeight::Packed(_)));
}
