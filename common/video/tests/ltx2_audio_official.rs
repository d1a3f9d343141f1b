//! The tensors of the official sound networks, as diffusers' classes have them (`tests/reference/ltx2_audio.py official`),
//! are exactly those that are loaded: from sparse files of the official sizes, whose content is zero.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use videosdgx_tensor::{Device, Kind};
use videosdgx_video::ltx2_audio::{Ltx2AudioVae, Ltx2Vocoder};
use videosdgx_video::wan_vae::VaeParts;

fn official(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/ltx2-audio/official.json");
    let all: Value = serde_json::from_slice(&fs::read(path).expect("is committed")).expect("parses");
    all[name].clone()
}

/// Every combination of the numbers in `columns`, in place of the `{}` in `pattern`.
fn names(pattern: &str, columns: &[Value]) -> Vec<String> {
    let mut names = vec![pattern.to_owned()];
    for column in columns {
        let numbers = column.as_array().expect("numbers");
        names = names
            .iter()
            .flat_map(|name| numbers.iter().map(|number| name.replacen("{}", &number.to_string(), 1)))
            .collect();
    }
    names
}

/// A checkpoint in bf16 with the official names and shapes; returns the number of tensors and of elements.
fn write(folder: &Path, official: &Value) -> (usize, i64) {
    let mut header = Map::new();
    let mut end = 0;
    for row in official["tensors"].as_array().expect("a list") {
        let shape: Vec<i64> = serde_json::from_value(row[1].clone()).expect("numbers");
        let bytes = 2 * shape.iter().product::<i64>();
        for name in names(row[0].as_str().expect("a text"), row[2].as_array().expect("a list")) {
            assert!(!name.contains('{'), "{name}");
            let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [end, end + bytes]});
            assert!(header.insert(name, entry).is_none(), "{row} is there twice");
            end += bytes;
        }
    }
    let (count, header) = (header.len(), Value::Object(header).to_string());
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("config.json"), official["config"].to_string()).expect("config.json");
    let mut file = File::create(folder.join("diffusion_pytorch_model.safetensors")).expect("a file");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("writes");
    file.write_all(header.as_bytes()).expect("writes");
    file.set_len(8 + header.len() as u64 + end.unsigned_abs()).expect("a sparse file");
    (count, end / 2)
}

#[test]
fn the_audio_autoencoder_has_the_published_tensors() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(write(folder.path(), &official("audio_vae")), (102, 53_248_402));
    let vae = Ltx2AudioVae::load(folder.path(), VaeParts::Both, Device::Cpu, Kind::BFloat16).expect("loads");
    // All in bf16, but for the statistics in f32.
    assert_eq!(vae.resident_bytes(), 2 * 53_248_402 + 2 * 256);
}

#[test]
fn the_vocoder_has_the_published_tensors() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(write(folder.path(), &official("vocoder")), (194, 55_592_802));
    let vocoder = Ltx2Vocoder::load(folder.path(), Device::Cpu).expect("loads");
    assert_eq!(vocoder.resident_bytes(), 4 * 55_592_802);
    assert_eq!((vocoder.sample_rate(), vocoder.config().samples_per_frame()), (24_000, 240));
}

#[test]
fn the_vocoder_with_bandwidth_extension_has_the_published_tensors() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(write(folder.path(), &official("vocoder_with_bwe")), (1227, 129_085_032));
    let vocoder = Ltx2Vocoder::load(folder.path(), Device::Cpu).expect("loads");
    // All but the inverse of the Fourier transform.
    assert_eq!(vocoder.resident_bytes(), 4 * (129_085_032 - 514 * 512));
    assert_eq!((vocoder.sample_rate(), vocoder.config().samples_per_frame()), (48_000, 480));
}
