//! Image patches are equal to those of transformers (fixtures of `tests/reference/vision.py`).

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use videosdgx_text::image::{ImageConfig, PicturePreprocessor, ProcessedImage};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vision").join(path)
}

fn files() -> Vec<(String, Value)> {
    let text = std::fs::read(fixture("images.json")).expect("the fixture is committed");
    let files: serde_json::Map<String, Value> = serde_json::from_slice(&text).expect("JSON");
    files.into_iter().collect()
}

fn process(processor: &PicturePreprocessor, name: &str) -> ProcessedImage {
    let bytes = std::fs::read(fixture("images").join(name)).expect("the fixture is committed");
    processor.process(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn tiny() -> PicturePreprocessor {
    PicturePreprocessor::open(&fixture("model")).expect("opens")
}

/// All kinds of PNG, and lossless WebP: identical bits, enlarged and reduced.
#[test]
fn patches_of_lossless_files_are_transformers_own() {
    let processors = [("tiny", tiny()), ("published", PicturePreprocessor::new(ImageConfig::default()))];
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (name, file) in files() {
        for (kind, processor) in &processors {
            let processed = process(processor, &name);
            let golden = &file[kind];
            assert_eq!(serde_json::json!(processed.grid), golden["grid"], "{name}, {kind}");
            let [_, rows, columns] = processed.grid;
            assert_eq!(processed.tokens, rows * columns / 4);
            let bytes = std::fs::read(fixture("images").join(&name)).expect("the fixture is committed");
            assert_eq!(processor.count(&bytes).expect("counts"), processed.tokens, "{name}, {kind}");
            assert_eq!(processed.patches.len(), rows * columns * processor.config().patch_values());
            if file["exact"] == true {
                let bytes: Vec<u8> = processed.patches.iter().flat_map(|value| value.to_le_bytes()).collect();
                let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                checked += 1;
                if golden["sha256"] != digest {
                    wrong.push(format!("{name} ({kind})"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "of {checked}: {wrong:?}");
    assert!(checked >= 24, "{checked}");
}

/// Decoders of JPEG and lossy WebP differ in rounding: limits on the maximum and the mean difference.
#[test]
fn patches_of_lossy_files_are_near_those_of_transformers() {
    let golden = std::fs::read(fixture("golden.safetensors")).expect("the fixture is committed");
    let golden = SafeTensors::deserialize(&golden).expect("safetensors");
    let processor = tiny();
    for (name, _) in files().into_iter().filter(|(_, file)| file["exact"] == false) {
        let expected = golden.tensor(&format!("near.{name}")).expect("is there");
        let patches = process(&processor, &name).patches;
        assert_eq!(patches.len(), expected.data().len());
        let errors: Vec<f32> = patches
            .iter()
            .zip(expected.data())
            .map(|(value, byte)| (value * 127.5 + 127.5 - f32::from(*byte)).abs())
            .collect();
        let (largest, mean) =
            (errors.iter().copied().fold(0.0, f32::max), errors.iter().sum::<f32>() / errors.len() as f32);
        println!("{name}: largest {largest:.2}, mean {mean:.3}");
        assert!(largest <= 4.0 && mean <= 0.5, "{name}: largest {largest}, mean {mean} of 255");
    }
}

#[test]
fn the_digest_names_the_content() {
    let processor = tiny();
    let digest = |name: &str| process(&processor, name).digest;
    assert_eq!(digest("rgb.png"), digest("rgb.png"));
    assert_ne!(digest("rgb.png"), digest("turned.png"));
    let other = PicturePreprocessor::new(ImageConfig { std: [0.4; 3], ..processor.config().clone() });
    assert_ne!(digest("rgb.png"), process(&other, "rgb.png").digest);
}

#[test]
fn no_image_has_more_tokens_than_the_maximum() {
    let whole = PicturePreprocessor::new(ImageConfig::default());
    for most in [1, 2, 3, 4, 7, 16, 100] {
        let processor = whole.clone().with_max_tokens(most);
        for name in ["rgb.png", "tall.png", "small.png"] {
            let processed = process(&processor, name);
            let bytes = std::fs::read(fixture("images").join(name)).expect("the fixture is committed");
            assert_eq!(processor.count(&bytes).expect("counts"), processed.tokens, "{name}");
            assert!((1..=most).contains(&processed.tokens), "{name}: {} of {most}", processed.tokens);
            assert_eq!(processed.patches.len(), processed.tokens * 4 * whole.config().patch_values());
        }
    }
    assert_eq!(process(&whole.clone().with_max_tokens(1000), "rgb.png"), process(&whole, "rgb.png"));
}

#[test]
fn a_very_narrow_picture_is_refused_with_the_limit() {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(1, 201).write_to(&mut bytes, image::ImageFormat::Png).expect("writes");
    let error = tiny().process(bytes.get_ref()).expect_err("refused").to_string();
    assert!(error.contains("at most 200 times"), "{error}");
}

/// Files with modified, removed and duplicated bytes: an error or an image within the limits, never a panic.
#[test]
fn damaged_files_do_no_harm() {
    let processor = tiny();
    let mut state: u64 = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64) | 1;
    println!("seed {state}");
    let mut random = |below: usize| {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut taken, mut refused) = (0, 0);
    for (name, _) in files() {
        let whole = std::fs::read(fixture("images").join(&name)).expect("the fixture is committed");
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..=random(4) {
                let (at, value) = (random(bytes.len()), random(256) as u8);
                match random(4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes.extend_from_within(at..),
                    _ => bytes[at] = value,
                }
            }
            match processor.process(&bytes) {
                Ok(processed) => {
                    assert_eq!(processor.count(&bytes).expect("counts"), processed.tokens, "{name}");
                    taken += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 0 && refused > 0);
}
