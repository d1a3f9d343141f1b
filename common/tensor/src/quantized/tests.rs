//! Data written by the reference packages decode to the values that those packages read back, bit for bit
//! (`tests/reference/weight_formats.py`).

use std::path::PathBuf;
use std::sync::Arc;

use rstest::rstest;
use tch::{Kind, Tensor};

use super::*;
use crate::test_support::{device, relative_error};
use crate::{Checkpoint, Quantization, Weights};

fn folder() -> PathBuf {
    let _ = device();
    crate::set_threads(1);
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/weight-formats")
}

fn weights(name: &str, kind: Kind) -> Weights {
    let file = if name.starts_with("ggml") { "formats.gguf" } else { "formats.safetensors" };
    let checkpoint = Checkpoint::open(folder().join(file)).expect("the fixture is committed");
    Weights::new(Arc::new(checkpoint), device(), kind, Quantization::None)
}

fn golden(name: &str) -> [Tensor; 3] {
    let checkpoint =
        Checkpoint::open_file(folder().join("golden.safetensors")).expect("the fixture is committed");
    ["expected", "input", "output"]
        .map(|part| checkpoint.read(&format!("{name}.{part}")).expect("is there").to_device(device()))
}

/// Whether the bits are identical, including the sign of zero.
fn same_bits(left: &Tensor, right: &Tensor) -> bool {
    left.contiguous().view_dtype(Kind::Int).equal(&right.contiguous().view_dtype(Kind::Int))
}

#[rstest]
fn a_published_format_is_read_exactly_and_multiplied_with(
    #[values(
        "qwen_fp8",
        "qwen_fp8_f32",
        "ct_fp8_channel",
        "ct_fp8_tensor",
        "ct_fp8_block",
        "ct_nvfp4",
        "modelopt_nvfp4",
        "bnb_nf4",
        "bnb_nf4_across_rows",
        "bnb_nf4_blocks_of_128",
        "bnb_nf4_nested",
        "ggml_q4_0",
        "ggml_q4_1",
        "ggml_q8_0",
        "ggml_q4_k",
        "ggml_q6_k",
        "ggml_f16",
        "ggml_bf16"
    )]
    name: &str,
) {
    let [expected, input, output] = golden(name);
    let (rows, width) = expected.size2().expect("a matrix");
    let read = weights(name, Kind::Float).tensor(&format!("{name}.weight"), &[rows, width]).expect("reads");
    assert!(same_bits(&read, &expected), "{:?}", (read - &expected).abs().max());

    // Rows looked up as in an embedding.
    let ids = Tensor::from_slice(&[rows - 1, 0, rows - 1]).to_device(device());
    let table = weights(name, Kind::Float).embedding(name, rows, width).expect("loads");
    assert!(table.forward(&ids).equal(&expected.index_select(0, &ids)));

    // With few and with many rows of input. Integer blocks round an f32 input to 15 bits and a bf16 input to 8.
    let integers = name.starts_with("ggml_q");
    let many = (input.repeat([11, 1]), output.repeat([11, 1]));
    for (input, output) in [(input, output), many] {
        for (kind, bound) in [(Kind::Float, if integers { 1e-4 } else { 1e-6 }), (Kind::BFloat16, 1e-2)] {
            let layer = weights(name, kind).linear(name, width, rows, false).expect("loads");
            let error = relative_error(&layer.forward(&input.to_kind(kind)), &output);
            assert!(error < bound, "{kind:?}: {error}");
        }
        let exact = weights(name, Kind::Float).exact().linear(name, width, rows, false).expect("loads");
        let error = relative_error(&exact.forward(&input), &output);
        assert!(error < 1e-6, "exact: {error}");
    }
}

/// The operators for a GPU, run on the tests' device.
#[rstest]
fn libtorchs_operators_decode_the_same_bits(
    #[values(
        "qwen_fp8",
        "ct_fp8_channel",
        "ct_fp8_tensor",
        "ct_fp8_block",
        "ct_nvfp4",
        "modelopt_nvfp4",
        "bnb_nf4",
        "bnb_nf4_blocks_of_128",
        "bnb_nf4_nested",
        "ggml_q4_0",
        "ggml_q4_1",
        "ggml_q8_0",
        "ggml_q4_k",
        "ggml_q6_k"
    )]
    name: &str,
) {
    let [expected, ..] = golden(name);
    let (rows, width) = expected.size2().expect("a matrix");
    let weights = weights(name, Kind::Float);
    let HostWeight::Packed(packed) =
        read(weights.checkpoint(), name, [rows, width], &mut Vec::new()).expect("reads")
    else {
        panic!("{name} is held packed");
    };
    let matrix = DeviceMatrix::new(&packed, device()).expect("whole blocks");
    assert_eq!(matrix.rows(), rows);
    assert!(same_bits(&matrix.dense(0, rows, Kind::Float), &expected));
    assert!(same_bits(&matrix.dense(2, rows - 3, Kind::Float), &expected.narrow(0, 2, rows - 3)));
    let ids = Tensor::from_slice(&[rows - 1, 0, 1]).to_device(device());
    assert!(same_bits(&matrix.shared().select(&ids, Kind::Float), &expected.index_select(0, &ids)));
}

#[test]
fn every_tensor_of_the_formats_belongs_to_a_linear() {
    let weights = weights("bnb", Kind::Float);
    let names: Vec<String> = weights.checkpoint().names().map(str::to_owned).collect();
    let mut linears: Vec<&str> = names.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    linears.sort_unstable();
    linears.dedup();
    assert_eq!(linears.len(), 11);
    for linear in linears {
        let (rows, width) = golden(linear)[0].size2().expect("a matrix");
        weights.linear(linear, width, rows, false).expect("loads");
    }
    assert_eq!(weights.unused(), Vec::<String>::new());
}

#[test]
fn parts_of_a_fused_layer_keep_their_scales() {
    for names in [["ggml_q4_0", "ggml_q4_0"], ["ggml_q4_1", "ggml_q8_0"], ["ggml_q4_1", "ggml_q4_0"]] {
        let [left, right] = names.map(|name| golden(name)[0].shallow_clone());
        let input = golden(names[0])[1].shallow_clone();
        let weights = weights(names[0], Kind::Float);
        let fused = weights.fused_linear(&[(names[0], 17), (names[1], 17)], 96, false).expect("loads");
        let expected = input.matmul(&Tensor::cat(&[left, right], 0).tr());
        let error = relative_error(&fused.forward(&input), &expected);
        assert!(error < 1e-4, "{names:?}: {error}");
    }
}
