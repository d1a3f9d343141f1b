//! Which checkpoint is served, under which name, and when a change of its files is noticed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use videosdgx_tensor::{ChosenDevice, DtypeChoice, Quantization};
use videosdgx_text_backend::{DecoderBackend, Settings};
use videosdgx_text_service::{ModelError, TextBackend as _};

fn backend(models: &TempDir) -> DecoderBackend {
    DecoderBackend::new(Settings {
        name: "qwen3-4b".to_owned(),
        checkpoint: None,
        installed: models.path().join("qwen3-4b"),
        demonstration: models.path().join("demonstration"),
        device: ChosenDevice::default(),
        dtype: DtypeChoice::Auto,
        cache_dtype: DtypeChoice::Auto,
        quantization: Quantization::None,
        weight_cache: None,
    })
}

/// Copies the weights and the configuration of a small model.
fn install(models: &TempDir, name: &str) -> PathBuf {
    let folder = models.path().join(name);
    fs::create_dir_all(&folder).expect("creates");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/text/llama");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture.join(file), folder.join(file)).expect("copies");
    }
    folder
}

#[test]
fn a_linked_checkpoint_has_the_name_of_its_target_and_an_unusable_one_is_refused() {
    let models = tempfile::tempdir().expect("a folder");
    let backend = backend(&models);
    let missing = backend.checkpoint().expect_err("there is not even a demonstration");
    assert!(matches!(missing, ModelError::CheckpointMissing { .. }), "{missing}");
    install(&models, "demonstration");
    assert!(backend.checkpoint().expect("is there").description.demonstration);
    let link = models.path().join("qwen3-4b");
    symlink("qwen3-4b-instruct-2507", &link).expect("links");
    for empty in [false, true] {
        if empty {
            fs::create_dir(models.path().join("qwen3-4b-instruct-2507")).expect("creates");
        }
        let error = backend.checkpoint().expect_err("cannot be used");
        assert!(matches!(error, ModelError::CheckpointInvalid { .. }), "not the demonstration: {error}");
    }
    install(&models, "qwen3-4b-instruct-2507");
    let checkpoint = backend.checkpoint().expect("is there");
    let description = checkpoint.description;
    assert_eq!(
        (description.checkpoint.as_str(), description.demonstration),
        ("qwen3-4b-instruct-2507", false)
    );
}

#[test]
fn a_change_of_any_file_makes_another_version() {
    let models = tempfile::tempdir().expect("a folder");
    let folder = install(&models, "qwen3-4b");
    let backend = backend(&models);
    let first = backend.checkpoint().expect("opens");
    assert_eq!(first, backend.checkpoint().expect("unchanged"));
    fs::write(folder.join("tokenizer.json"), "{}").expect("writes");
    let second = backend.checkpoint().expect("opens");
    assert_ne!(first.version, second.version);
    let config = fs::read_to_string(folder.join("config.json")).expect("reads");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("parses");
    config["max_position_embeddings"] = 77.into();
    fs::write(folder.join("config.json"), config.to_string()).expect("writes");
    assert_eq!(backend.checkpoint().expect("opens").description.max_context, 77, "it is read again");
}
