use std::fs;

use tch::{Kind, Tensor};

use super::*;

/// Writes `tensors` as a safetensors file.
fn write(path: &Path, tensors: &[(&str, Tensor)]) {
    Tensor::write_safetensors(tensors, path).expect("writes");
}

fn numbers(count: i64) -> Tensor {
    Tensor::arange(count, (Kind::Float, Device::Cpu)).view([count / 2, 2])
}

#[test]
fn a_whole_file_gives_back_what_was_stored() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let half = numbers(6).to_kind(Kind::BFloat16);
    write(&folder.path().join("model.safetensors"), &[("a", numbers(8)), ("b", half.shallow_clone())]);
    let checkpoint = Checkpoint::open(folder.path()).expect("opens");
    assert_eq!(checkpoint.read("a").expect("reads"), numbers(8));
    assert_eq!(checkpoint.read("b").expect("reads"), half);
    assert_eq!(
        checkpoint.read_rows("a", &[3, 0, 3]).expect("reads"),
        numbers(8).index_select(0, &Tensor::from_slice(&[3i64, 0, 3]))
    );
    for row in [4, -1, i64::MAX] {
        let error = checkpoint.read_rows("a", &[0, row]).expect_err("no such row").to_string();
        assert!(error.contains(&format!("no row {row}")), "{error}");
    }
    assert_eq!(checkpoint.stored_bytes(), 32 + 12);
    assert!(matches!(checkpoint.read("c"), Err(TensorError::Checkpoint(CheckpointError::Invalid { .. }))));
}

#[test]
fn shards_are_found_through_the_index() {
    let folder = tempfile::tempdir().expect("temporary folder");
    write(&folder.path().join("x-1.safetensors"), &[("a", numbers(4))]);
    write(&folder.path().join("x-2.safetensors"), &[("b", numbers(6))]);
    let index = folder.path().join("diffusion_pytorch_model.safetensors.index.json");
    fs::write(&index, r#"{"metadata":{},"weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors"}}"#)
        .expect("writes");
    let checkpoint = Checkpoint::open(folder.path()).expect("opens");
    assert_eq!(checkpoint.read("b").expect("reads"), numbers(6));

    fs::write(&index, r#"{"weight_map":{"a":"x-2.safetensors","b":"x-2.safetensors"}}"#).expect("writes");
    let error = Checkpoint::open(folder.path()).err().expect("an inconsistent index").to_string();
    assert!(error.contains("index.json") && error.contains("\"a\""), "{error}");

    for outside in ["../x-1.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "x-1.bin"] {
        fs::write(&index, format!(r#"{{"weight_map":{{"a":"{outside}"}}}}"#)).expect("writes");
        let error = Checkpoint::open(folder.path()).err().expect("points outside").to_string();
        assert!(error.contains("not a safetensors file of this folder"), "{outside}: {error}");
    }

    fs::write(&index, r#"{"weight_map":{"a":"x-3.safetensors"}}"#).expect("writes");
    match Checkpoint::open(folder.path()) {
        Err(CheckpointError::Missing { path }) => assert!(path.ends_with("x-3.safetensors")),
        _ => panic!("a shard is missing"),
    }
}

#[test]
fn missing_and_truncated_files_are_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let absent = folder.path().join("transformer");
    assert!(matches!(Checkpoint::open(&absent), Err(CheckpointError::Missing { path }) if path == absent));
    assert!(matches!(Checkpoint::open(folder.path()), Err(CheckpointError::Missing { .. })));

    let file = folder.path().join("model.safetensors");
    write(&file, &[("a", numbers(64))]);
    let bytes = fs::read(&file).expect("reads");
    for length in [0, 4, 8, 20, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).expect("writes");
        let error = Checkpoint::open(folder.path()).err().expect("cut").to_string();
        assert!(error.contains("model.safetensors"), "{error}");
    }
    fs::write(&file, [0xff; 64]).expect("writes");
    assert!(Checkpoint::open(folder.path()).is_err(), "a header length beyond the file");

    fs::write(&file, &bytes).expect("writes");
    let checkpoint = Checkpoint::open(folder.path()).expect("opens");
    fs::write(&file, &bytes[..bytes.len() - 4]).expect("cut after it was opened");
    let error = checkpoint.read("a").expect_err("is truncated").to_string();
    assert!(error.contains("is truncated"), "{error}");
}

#[test]
fn damaged_headers_never_panic() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("model.safetensors");
    write(&file, &[("a", numbers(8)), ("b", numbers(6))]);
    let good = fs::read(&file).expect("reads");
    let mut state = 0x9e37_79b9_u64;
    for _ in 0..2000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut bytes = good.clone();
        let place = (state >> 33) as usize % (bytes.len() - 48);
        bytes[place] ^= 1 << ((state >> 20) & 7);
        fs::write(&file, &bytes).expect("writes");
        if let Ok(checkpoint) = Checkpoint::open(folder.path()) {
            for name in checkpoint.names().map(str::to_owned).collect::<Vec<_>>() {
                let _ = checkpoint.read(&name);
            }
        }
    }
}

#[test]
fn an_index_beside_a_whole_file_is_not_used() {
    let folder = tempfile::tempdir().expect("temporary folder");
    write(&folder.path().join("model.safetensors"), &[("a", numbers(4))]);
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map":{"a":"model-00001-of-00002.safetensors"}}"#).expect("writes");
    assert_eq!(Checkpoint::open(folder.path()).expect("opens").read("a").expect("reads"), numbers(4));
}

#[test]
fn a_sharded_variant_is_found_through_its_index() {
    for (shard, index) in [
        ("model-00001-of-00002.fp16.safetensors", "model.safetensors.index.fp16.json"),
        ("model.fp16-00001-of-00002.safetensors", "model.fp16.safetensors.index.json"),
    ] {
        let folder = tempfile::tempdir().expect("temporary folder");
        write(&folder.path().join(shard), &[("a", numbers(4))]);
        write(&folder.path().join(shard.replace("00001", "00002")), &[("b", numbers(6))]);
        let second = shard.replace("00001", "00002");
        let weight_map = format!(r#"{{"weight_map":{{"a":"{shard}","b":"{second}"}}}}"#);
        fs::write(folder.path().join(index), &weight_map).expect("writes");
        assert_eq!(Checkpoint::open(folder.path()).expect("opens").read("b").expect("reads"), numbers(6));
        fs::write(folder.path().join(format!("x{index}")), &weight_map).expect("writes");
        let error = Checkpoint::open(folder.path()).err().expect("which one").to_string();
        assert!(error.contains("holds several indexes"), "{error}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 1234567\n";
    for (files, reason) in [
        (
            &[("model-00001-of-00002.safetensors", ""), ("model-00002-of-00002.safetensors", "")][..],
            "no index: model.safetensors.index.json is missing",
        ),
        (
            &[("diffusion_pytorch_model-00001-of-00002.safetensors", "")],
            "no index: diffusion_pytorch_model.safetensors.index.json is missing",
        ),
        (
            &[("a.safetensors", ""), ("b.safetensors", "")],
            "none with a published name (diffusion_pytorch_model.safetensors",
        ),
        (&[("model.safetensors", pointer)], "model.safetensors: is a Git LFS pointer"),
        (&[("model.safetensors.index.json", pointer)], "index.json: is a Git LFS pointer"),
        (&[("model.gguf", pointer)], "model.gguf: is a Git LFS pointer"),
        (&[("pytorch_model.bin", "")], "holds pytorch_model.bin; PyTorch's own files are not read"),
        (&[("m-00001-of-00002.gguf", ""), ("m-00002-of-00002.gguf", "")], "is a part of a split GGUF file"),
    ] {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, content) in files {
            fs::write(folder.path().join(name), content).expect("writes");
        }
        match Checkpoint::open(folder.path()).err().expect("refused") {
            error @ CheckpointError::Invalid { .. } => {
                assert!(error.to_string().contains(reason), "{error}");
            }
            error => panic!("{error}"),
        }
    }
}
