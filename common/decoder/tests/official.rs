//! The tensors of the official models, as transformers saves them (`tests/reference/full_size_text_checkpoint.py
//! lists`), are exactly those that the loader requires.

#[path = "../../../tests/fixtures/official.rs"]
mod official;

use official::{Tensors, assert_official, official};
use rstest::rstest;
use videosdgx_decoder::vision::VisionConfig;
use videosdgx_decoder::{DecoderConfig, expected_tensors};

#[rstest]
#[case("qwen3-4b", 398, 4_022_468_096, 147_456)]
#[case("qwen3-coder-30b", 18_867, 30_532_122_624, 98_304)]
#[case("qwen3-vl-2b", 625, 2_127_532_032, 114_688)]
#[case("gemma-3-12b", 626, 11_766_034_176, 393_216)]
#[case("glm-4.7-flash", 9_491, 29_943_393_920, 54_144)]
#[case("glm-4.7", 44_189, 352_797_829_024, 376_832)]
fn names_and_shapes_are_the_published_ones(
    #[case] name: &str,
    #[case] count: usize,
    #[case] parameters: i64,
    #[case] cache_bytes: i64,
) {
    let (config, mut theirs) = official("text/official.json", name);
    let config = DecoderConfig::from_json(&config).expect("reads");
    let mut ours: Tensors = expected_tensors(&config).into_iter().collect();
    if let Some(vision) = &config.vision {
        let tower = VisionConfig::parse(vision).expect("reads").expected_tensors();
        ours.extend(tower.into_iter().map(|(name, shape)| (format!("model.visual.{name}"), shape)));
    }
    // The vision tower of Gemma 3 is not loaded.
    theirs.retain(|name, _| {
        !["vision_tower.", "multi_modal_projector."].iter().any(|part| name.starts_with(part))
    });
    assert_official(&ours, &theirs, count, parameters);
    assert_eq!(config.cache_width() * config.layers.len() as i64 * 2, cache_bytes);
}
