use super::*;

fn weights(tensors: &[(&str, Tensor)], quantization: Quantization) -> (tempfile::TempDir, Weights) {
    let folder = tempfile::tempdir().expect("temporary folder");
    Tensor::write_safetensors(tensors, folder.path().join("model.safetensors")).expect("writes");
    let checkpoint = Arc::new(Checkpoint::open(folder.path()).expect("opens"));
    (folder, Weights::new(checkpoint, Device::Cpu, Kind::Float, quantization))
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

#[test]
fn fused_layers_compute_the_same_as_single_ones() {
    tch::manual_seed(1);
    let names = ["a.q.weight", "a.k.weight", "a.q.bias", "a.k.bias"];
    let tensors = names.map(|name| (name, random(if name.ends_with("bias") { &[3] } else { &[3, 4] })));
    let (_folder, weights) = weights(&tensors, Quantization::None);
    let weights = weights.at("a");
    let input = random(&[2, 4]);
    let fused = weights.fused_linear(&[("q", 3), ("k", 3)], 4, true).expect("loads").forward(&input);
    for (index, name) in ["q", "k"].into_iter().enumerate() {
        let alone = weights.linear(name, 4, 3, true).expect("loads").forward(&input);
        assert!(alone.allclose(&fused.narrow(1, 3 * index as i64, 3), 1e-6, 1e-6, false));
    }
    assert_eq!(weights.unused(), Vec::<String>::new());
    assert_eq!(weights.resident_bytes(), 2 * (2 * 3 * 4 + 2 * 3) * 4, "each was loaded twice");
}

#[test]
fn a_tensor_that_does_not_fit_is_named_with_its_file() {
    let (_folder, weights) =
        weights(&[("a.weight", random(&[3, 4])), ("n", Tensor::from_slice(&[1i64]))], Quantization::None);
    for (result, reason) in [
        (weights.linear("a", 4, 5, false).map(|_| ()), "has shape [3, 4], the configuration requires [5, 4]"),
        (weights.linear("a", 4, 3, true).map(|_| ()), "\"a.bias\": is not in the checkpoint"),
        (weights.tensor("n", &[1]).map(|_| ()), "is stored as I64"),
    ] {
        let error = result.expect_err("does not fit").to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(
        weights.tensor("a.weight", &[4, 4]).expect_err("shape").to_string().contains("model.safetensors")
    );
}

#[test]
fn published_scales_are_applied() {
    tch::manual_seed(2);
    let (weight, scale, input) = (random(&[3, 4]), random(&[3, 1]).abs() + 0.5, random(&[2, 4]));
    let codes = (&weight / &scale).to_kind(Kind::Float8e4m3fn);
    let stored = codes.to_kind(Kind::Float) * &scale;
    // tch cannot write 8-bit floats: write bytes and replace the type's name in the header.
    let (folder, _) = weights(
        &[("x.weight", codes.view_dtype(Kind::Uint8)), ("x.weight_scale", scale)],
        Quantization::None,
    );
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).expect("reads");
    let at = bytes.windows(4).position(|window| window == b"\"U8\"").expect("the type's name");
    let name = b"\"F8_E4M3\"";
    let mut changed = [&bytes[..at], &name[..], &bytes[at + 4..]].concat();
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) + (name.len() - 4) as u64;
    changed[..8].copy_from_slice(&length.to_le_bytes());
    std::fs::write(&path, changed).expect("writes");
    let checkpoint = Arc::new(Checkpoint::open(folder.path()).expect("opens"));
    let weights = Weights::new(checkpoint, Device::Cpu, Kind::Float, Quantization::None);
    let output = weights.linear("x", 4, 3, false).expect("loads").forward(&input);
    assert!(output.allclose(&input.matmul(&stored.tr()), 1e-5, 1e-6, false));
    assert_eq!(weights.unused(), Vec::<String>::new());
}
