//! The dialects of FP8 checkpoints: each scale is applied, or the tensor is refused with the names of its scales.

use std::path::Path;
use std::sync::Arc;

use rstest::rstest;
use tch::{Device, Kind, Tensor};

use crate::checkpoint::SafetensorsWriter;
use crate::{Checkpoint, Quantization, TensorError, Weights};

const ROWS: i64 = 130;
const WIDTH: i64 = 140;

struct Part<'a>(&'a str, &'a str, Vec<usize>, Vec<u8>);

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Codes of finite numbers.
fn codes(count: i64) -> Vec<u8> {
    (0..count).map(|index| u8::try_from(index * 37 % 0x7f).expect("below")).collect()
}

/// The values of [`codes`], without scales.
fn plain(shape: &[i64]) -> Tensor {
    let codes = Tensor::from_slice(&codes(shape.iter().product()));
    codes.view_dtype(Kind::Float8e4m3fn).to_kind(Kind::Float).view(shape)
}

fn weights(folder: &Path, parts: &[Part<'_>]) -> Weights {
    let path = folder.join("model.safetensors");
    let mut writer = SafetensorsWriter::create(&path).expect("creates");
    for Part(name, dtype, shape, bytes) in parts {
        writer.add(name, dtype, shape, bytes).expect("writes");
    }
    writer.finish().expect("finishes");
    let checkpoint = Arc::new(Checkpoint::open_file(path).expect("opens"));
    Weights::new(checkpoint, Device::Cpu, Kind::Float, Quantization::None)
}

fn weight() -> Part<'static> {
    Part("x.weight", "F8_E4M3", vec![ROWS as usize, WIDTH as usize], codes(ROWS * WIDTH))
}

#[rstest]
#[case::comfy("x.scale_weight", vec![], vec![0.75])]
#[case::comfy_one("x.scale_weight", vec![1], vec![0.75])]
#[case::tensor("x.weight_scale", vec![], vec![3.5])]
#[case::channel("x.weight_scale", vec![130, 1], (0..130).map(|row| 0.5 + row as f32).collect())]
#[case::blocks("x.weight_scale_inv", vec![2, 2], vec![1.0, 2.0, 3.0, 4.0])]
fn scales_are_applied_to_layers_tables_and_rows(
    #[case] name: &str,
    #[case] shape: Vec<usize>,
    #[case] scales: Vec<f32>,
) {
    crate::set_threads(1);
    let row_scales =
        match scales.len() {
            1 => Tensor::full([ROWS, WIDTH], f64::from(scales[0]), (Kind::Float, Device::Cpu)),
            4 => {
                let grid = Tensor::from_slice(&scales).view([2, 2]);
                let grid = grid
                    .repeat_interleave_self_int(128, 0_i64, None::<i64>)
                    .repeat_interleave_self_int(128, 1_i64, None::<i64>);
                grid.narrow(0, 0, ROWS).narrow(1, 0, WIDTH)
            }
            _ => Tensor::from_slice(&scales).view([ROWS, 1]).repeat([1, WIDTH]),
        };
    let expected = plain(&[ROWS, WIDTH]) * row_scales;
    let folder = tempfile::tempdir().expect("folder");
    let parts = [
        weight(),
        Part(name, "F32", shape, f32s(&scales)),
        Part("scaled_fp8", "F8_E4M3", vec![2], vec![0, 0]),
        Part("x.scale_input", "F32", vec![], f32s(&[9.0])),
    ];
    let weights = weights(folder.path(), &parts);
    assert!(weights.tensor("x.weight", &[ROWS, WIDTH]).expect("reads").equal(&expected));
    let input = Tensor::randn([3, WIDTH], (Kind::Float, Device::Cpu));
    let output = weights.linear("x", WIDTH, ROWS, false).expect("loads").forward(&input);
    assert!(output.allclose(&input.matmul(&expected.tr()), 1e-4, 1e-3, false));
    let ids = [129i64, 0, 128, 1];
    let rows = expected.index_select(0, &Tensor::from_slice(&ids));
    assert!(
        weights.embedding("x", ROWS, WIDTH).expect("loads").forward(&Tensor::from_slice(&ids)).equal(&rows)
    );
    assert!(weights.rows("x.weight", &ids).expect("reads").equal(&rows), "rows that are read one by one");
    assert_eq!(weights.unused(), Vec::<String>::new());
}

#[test]
fn a_kernel_of_a_convolution_has_one_scale() {
    let folder = tempfile::tempdir().expect("folder");
    let kernel = || Part("x.weight", "F8_E4M3", vec![3, 2, 1, 2, 2], codes(24));
    let scaled = [
        kernel(),
        Part("x.scale_weight", "F32", vec![1], f32s(&[2.5])),
        Part("y.bias", "F8_E4M3", vec![3], codes(3)),
    ];
    let weights = weights(folder.path(), &scaled);
    let read = weights.tensor("x.weight", &[3, 2, 1, 2, 2]).expect("reads");
    assert!(read.equal(&(plain(&[3, 2, 1, 2, 2]) * 2.5)));
    let error = weights.tensor("y.bias", &[3]).expect_err("has no scale").to_string();
    assert!(error.contains("is stored in 8 bits (F8_E4M3) with no scale"), "{error}");
}

#[rstest]
#[case::none(vec![], "with no scale; known scales are weight_scale_inv, weight_scale, scale_weight")]
#[case::unknown(vec![Part("x.qscale_weight", "F32", vec![], f32s(&[1.0]))], "with x.qscale_weight; known")]
#[case::several(vec![Part("x.weight_scale", "F32", vec![], f32s(&[1.0])), Part("x.scale_weight", "F32", vec![], f32s(&[1.0]))], "has several scales: weight_scale, scale_weight")]
#[case::comfy_nvfp4(vec![Part("x.weight_scale", "F32", vec![], f32s(&[1.0])), Part("x.comfy_quant", "U8", vec![19], br#"{"format": "nvfp4"}"#.to_vec())], "comfy_quant\": is \"nvfp4\"; of ComfyUI's formats only")]
fn unknown_dialects_are_refused_by_name(#[case] mut parts: Vec<Part<'static>>, #[case] reason: &str) {
    parts.push(weight());
    let folder = tempfile::tempdir().expect("folder");
    let weights = weights(folder.path(), &parts);
    let refusal = |result: Result<(), TensorError>| result.expect_err("refused").to_string();
    let layer = refusal(weights.linear("x", WIDTH, ROWS, false).map(drop));
    assert!(layer.contains(reason) && layer.contains("model.safetensors"), "{layer}");
    if !reason.contains("ComfyUI") {
        let rows = refusal(weights.rows("x.weight", &[0]).map(drop));
        assert!(rows.contains(reason), "{rows}");
        assert_eq!(refusal(weights.require("x.weight", &[ROWS, WIDTH])), rows, "already when it is loaded");
    }
}

#[test]
fn comfys_own_description_of_fp8_is_accepted() {
    let folder = tempfile::tempdir().expect("folder");
    let format = br#"{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}"#;
    let parts = [
        weight(),
        Part("x.weight_scale", "F32", vec![], f32s(&[2.0])),
        Part("x.comfy_quant", "U8", vec![format.len()], format.to_vec()),
    ];
    let weights = weights(folder.path(), &parts);
    let read = weights.tensor("x.weight", &[ROWS, WIDTH]).expect("reads");
    assert!(read.equal(&(plain(&[ROWS, WIDTH]) * 2.0)));
    assert_eq!(weights.unused(), Vec::<String>::new());
}

#[test]
fn scales_beside_an_unquantised_table_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let parts = [
        Part("x.weight", "F32", vec![1, 2], f32s(&[1.0, 2.0])),
        Part("x.scale_weight", "F32", vec![], f32s(&[1.0])),
    ];
    let weights = weights(folder.path(), &parts);
    for error in [weights.linear("x", 2, 1, false).map(drop), weights.rows("x.weight", &[0]).map(drop)] {
        let error = error.expect_err("refused").to_string();
        assert!(error.contains("is stored as F32 and has scales (scale_weight)"), "{error}");
    }
}
