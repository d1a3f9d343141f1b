//! The tensors of the official models, as transformers saves them (`tests/reference/full_size_text_checkpoint.py
//! lists`), are exactly those that the loader requires.

use std::collections::BTreeMap;
use std::path::Path;

use rstest::rstest;
use serde_json::Value;
use videosdgx_decoder::vision::VisionConfig;
use videosdgx_decoder::{DecoderConfig, expected_tensors};

fn official(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/text/official.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).expect("is committed")).expect("parses");
    all[name].clone()
}

/// Expands `{layer}` and `{expert}` in the patterns.
fn written_out(rows: &Value) -> BTreeMap<String, Vec<i64>> {
    let range = |row: &Value, key: &str| match row.get(key) {
        Some(range) => range[0].as_i64().expect("a number")..range[1].as_i64().expect("a number"),
        None => 0..1,
    };
    let mut tensors = BTreeMap::new();
    for row in rows.as_array().expect("a list") {
        let pattern = row["pattern"].as_str().expect("a text");
        let shape: Vec<i64> = serde_json::from_value(row["shape"].clone()).expect("numbers");
        for layer in range(row, "layers") {
            for expert in range(row, "experts") {
                let name =
                    pattern.replace("{layer}", &layer.to_string()).replace("{expert}", &expert.to_string());
                assert!(tensors.insert(name, shape.clone()).is_none(), "{pattern} twice");
            }
        }
    }
    tensors
}

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
    let official = official(name);
    let config = DecoderConfig::from_json(&official["config"]).expect("reads");
    let mut theirs = written_out(&official["tensors"]);
    let mut ours: BTreeMap<String, Vec<i64>> = expected_tensors(&config).into_iter().collect();
    if let Some(vision) = &config.vision {
        let tower = VisionConfig::parse(vision).expect("reads").expected_tensors();
        ours.extend(tower.into_iter().map(|(name, shape)| (format!("model.visual.{name}"), shape)));
    }
    // The vision tower of Gemma 3 is not loaded.
    theirs.retain(|name, _| {
        !["vision_tower.", "multi_modal_projector."].iter().any(|part| name.starts_with(part))
    });
    let differ: Vec<_> = theirs
        .iter()
        .filter(|(name, shape)| ours.get(*name) != Some(shape))
        .map(|(name, _)| name)
        .chain(ours.keys().filter(|name| !theirs.contains_key(*name)))
        .take(5)
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
    assert_eq!(theirs.len(), count);
    assert_eq!(theirs.values().map(|shape| shape.iter().product::<i64>()).sum::<i64>(), parameters);
    assert_eq!(config.cache_width() * config.layers.len() as i64 * 2, cache_bytes);
}
