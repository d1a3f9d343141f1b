//! GGUF files as checkpoints.

use std::fs;
use std::path::PathBuf;

use tch::{Kind, Tensor};
use videosdgx_gguf::GgmlType;

use super::*;

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/weight-formats/formats.gguf")
}

#[test]
fn a_folder_with_one_gguf_file_is_a_checkpoint() {
    let folder = tempfile::tempdir().expect("folder");
    fs::copy(fixture(), folder.path().join("any-name.Q4_1.gguf")).expect("copies");
    fs::write(folder.path().join("README.md"), "").expect("writes");
    let checkpoint = Checkpoint::open(folder.path()).expect("opens");
    assert_eq!(checkpoint.folder(), folder.path());
    assert_eq!(checkpoint.gguf().and_then(|gguf| gguf.architecture()), Some("formats"));
    let entry = checkpoint.entry("ggml_q4_1.weight").expect("is there");
    assert_eq!(
        (entry.kind, entry.shape.as_slice()),
        (StoredDtype::Packed(GgmlType::Q4_1), [17, 96].as_slice())
    );
    // Quantised blocks are read as bytes: three blocks of 20 bytes in a row of 96 values.
    let bytes = checkpoint.read("ggml_q4_1.weight").expect("reads");
    assert_eq!((bytes.kind(), bytes.size()), (Kind::Uint8, vec![17, 60]));
    let rows = checkpoint.read_rows("ggml_q4_1.weight", &[16, 3]).expect("reads");
    assert!(rows.equal(&bytes.index_select(0, &Tensor::from_slice(&[16i64, 3]))));
    assert_eq!(checkpoint.entry("ggml_bf16.weight").expect("is there").kind, StoredDtype::Bf16);
    assert_eq!(checkpoint.read("ggml_f16.weight").expect("reads").kind(), Kind::Half);

    fs::copy(fixture(), folder.path().join("other.gguf")).expect("copies");
    let error = Checkpoint::open(folder.path()).err().expect("which one").to_string();
    assert!(error.contains("holds 2 GGUF files"), "{error}");
    assert!(Checkpoint::open(folder.path().join("other.gguf")).is_ok(), "the file itself says which");

    Tensor::write_safetensors(&[("a", Tensor::from_slice(&[1f32]))], folder.path().join("model.safetensors"))
        .expect("writes");
    let checkpoint = Checkpoint::open(folder.path()).expect("safetensors come first");
    assert!(checkpoint.gguf().is_none() && checkpoint.entry("a").is_some());
}

#[test]
fn damaged_gguf_files_are_errors_about_the_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("model.gguf");
    let good = fs::read(fixture()).expect("reads");
    let end =
        Checkpoint::open(fixture()).expect("opens").entries().map(|entry| entry.offset + entry.bytes).max();
    let end = usize::try_from(end.expect("tensors")).expect("small");
    for length in [0, 3, 24, 100, end - 1] {
        fs::write(&path, &good[..length]).expect("writes");
        let error = Checkpoint::open(&path).err().expect("cut");
        assert!(matches!(&error, CheckpointError::Invalid { file, .. } if *file == path), "{error}");
    }
    assert!(matches!(
        Checkpoint::open(folder.path().join("none.gguf")),
        Err(CheckpointError::Missing { .. })
    ));
    fs::write(&path, &good).expect("writes");
    let checkpoint = Checkpoint::open(&path).expect("opens");
    fs::write(&path, &good[..end - 1]).expect("cut after it was opened");
    let last = checkpoint
        .gguf()
        .and_then(|gguf| gguf.tensors().iter().max_by_key(|tensor| tensor.offset))
        .expect("one");
    let error = checkpoint.read(&last.name).expect_err("is truncated").to_string();
    assert!(error.contains("is truncated"), "{error}");
}
