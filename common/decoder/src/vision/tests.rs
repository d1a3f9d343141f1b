//! Comparison with transformers (fixtures of `tests/reference/vision.py`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rstest::rstest;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use videosdgx_decoder_api::ImageInput;
use videosdgx_tensor::{Checkpoint, Quantization, TensorError, Weights, catch_libtorch_errors};
use videosdgx_text::image::PicturePreprocessor;

use super::{Features, VisionConfig, VisionTower};
use crate::names::VISION;

fn fixture(path: &str) -> PathBuf {
    videosdgx_tensor::set_threads(1);
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vision").join(path)
}

fn golden() -> HashMap<String, Tensor> {
    Tensor::read_safetensors(fixture("golden.safetensors")).expect("is committed").into_iter().collect()
}

fn config() -> VisionConfig {
    let text = std::fs::read(fixture("model/config.json")).expect("is committed");
    let config: Value = serde_json::from_slice(&text).expect("JSON");
    VisionConfig::parse(&config["vision_config"]).expect("parses")
}

fn weights(kind: Kind) -> Weights {
    let checkpoint = Checkpoint::open(fixture("model")).expect("opens");
    Weights::new(Arc::new(checkpoint), Device::Cpu, kind, Quantization::None).at(VISION)
}

fn tower(kind: Kind) -> VisionTower {
    VisionTower::load(&weights(kind), &config()).expect("loads")
}

/// The two pictures of the fixture, with their positions in its prompt.
fn images() -> [Arc<ImageInput>; 2] {
    let processor = PicturePreprocessor::open(&fixture("model")).expect("opens");
    let ids = Vec::<i64>::try_from(&golden()["ids"]).expect("numbers");
    let mut from = 0;
    ["rgb.png", "tall.png"].map(|name| {
        let bytes = std::fs::read(fixture("images").join(name)).expect("is committed");
        let position = from + ids[from..].iter().position(|id| *id == 150).expect("a placeholder");
        let image = processor.process(&bytes).expect("a picture").at(position);
        assert!(ids[position..position + image.tokens].iter().all(|id| *id == 150));
        assert_ne!(ids[position + image.tokens], 150);
        from = position + image.tokens;
        image
    })
}

/// The largest difference, relative to the largest value.
fn error(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    let (left, right) = (left.to_kind(Kind::Double), right.to_kind(Kind::Double));
    f64::try_from((left - &right).abs().max() / right.abs().max()).expect("a number")
}

fn check(features: &Features, golden: &HashMap<String, Tensor>, first: i64, bound: f64) {
    let rows = |name: &str| golden[name].narrow(0, first, features.merged.size()[0]);
    let parts =
        features.deepstack.iter().enumerate().map(|(index, part)| (format!("deepstack.{index}"), part));
    let mut all: Vec<(String, &Tensor)> = parts.collect();
    assert_eq!(all.len(), 3);
    all.push(("merged".into(), &features.merged));
    for (name, part) in all {
        let error = error(part, &rows(&name));
        println!("{name}: {error:.2e}");
        assert!(error < bound, "{name}: {error:.2e}");
    }
}

#[rstest]
#[case(Kind::Float, 5e-6)]
#[case(Kind::BFloat16, 2e-2)]
fn features_are_those_of_transformers(#[case] kind: Kind, #[case] bound: f64) {
    let (tower, golden, images) = (tower(kind), golden(), images());
    let together = images.each_ref().map(|image| &**image);
    let features = catch_libtorch_errors(|| Ok::<_, TensorError>(tower.encode(&together).expect("fits")))
        .expect("computes");
    assert_eq!(features.merged.kind(), kind);
    check(&features, &golden, 0, bound);
    // Each picture alone gives the same features.
    let mut first = 0;
    for image in &images {
        let alone = catch_libtorch_errors(|| Ok::<_, TensorError>(tower.encode(&[image]).expect("fits")))
            .expect("computes");
        assert_eq!(alone.merged.size()[0], image.tokens as i64);
        check(&alone, &golden, first, bound);
        first += image.tokens as i64;
    }
}

/// The pixels of the fixture itself, so that an error is the tower's and not the preprocessor's.
#[test]
fn features_of_given_patches() {
    let (tower, golden) = (tower(Kind::Float), golden());
    let patches = ["patches.rgb.png", "patches.tall.png"]
        .map(|name| (golden[name].to_kind(Kind::Float) - 127.5) / 127.5);
    let grids = images().map(|image| image.grid);
    let features =
        catch_libtorch_errors(|| Ok::<_, TensorError>(tower.forward(&Tensor::cat(&patches, 0), &grids)))
            .expect("computes");
    check(&features, &golden, 0, 5e-6);
}

#[test]
fn the_tower_loads_every_tensor_below_its_prefix() {
    let weights = weights(Kind::Float);
    VisionTower::load(&weights, &config()).expect("loads");
    let unused = weights.unused();
    assert!(unused.iter().all(|name| !name.starts_with(VISION)), "{unused:?}");
    let mut listed: Vec<String> =
        config().expected_tensors().into_iter().map(|(name, _)| format!("{VISION}.{name}")).collect();
    let mut stored: Vec<String> =
        weights.checkpoint().names().filter(|name| name.starts_with(VISION)).map(str::to_owned).collect();
    listed.sort_unstable();
    stored.sort_unstable();
    assert_eq!(listed, stored);
}

#[test]
fn a_tensor_of_another_shape_is_refused() {
    let config = VisionConfig { intermediate: 41, ..config() };
    let error = VisionTower::load(&weights(Kind::Float), &config).err().expect("refused").to_string();
    assert!(error.contains("model.visual.blocks.0.mlp.linear_fc1"), "{error}");
}

#[test]
fn pictures_preprocessed_for_another_tower_are_rejected() {
    let tower = tower(Kind::Float);
    let [image, _] = images();
    let changes: [fn(&mut ImageInput); 5] = [
        |image| image.grid[1] += 1,
        |image| image.tokens += 1,
        |image| image.patches.truncate(1),
        |image| image.grid = [usize::MAX, 2, 2],
        |image| image.grid = [0, 2, 2],
    ];
    for change in changes {
        let mut wrong = (*image).clone();
        change(&mut wrong);
        assert!(tower.encode(&[&wrong]).is_err(), "{wrong:?}");
    }
}

#[test]
fn positions_match_transformers_in_every_chunking() {
    let golden = Vec::<i64>::try_from(golden()["positions"].tr().flatten(0, 1)).expect("numbers");
    let expected: Vec<[usize; 3]> =
        golden.chunks(3).map(|axes| std::array::from_fn(|axis| axes[axis] as usize)).collect();
    let images = images();
    for start in 0..expected.len() {
        for end in start..=expected.len() {
            let positions: Vec<[usize; 3]> =
                crate::positions::of(start..end, &images, 2).into_iter().map(|position| position.0).collect();
            assert_eq!(positions, expected[start..end], "{start}..{end}");
        }
    }
}
