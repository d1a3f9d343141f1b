//! The tensors of the official models, as diffusers names them (`tests/reference/ltx2_official.py`), are exactly those
//! that the loaders require.

#[path = "../../../tests/fixtures/official.rs"]
mod official;

use ltx2::connectors::{self, ConnectorsConfig};
use ltx2::transformer::{self, TransformerConfig};
use official::{assert_official, official};
use rstest::rstest;

const FILE: &str = "ltx2-official/networks.json";

#[rstest]
#[case("transformer-2.0", 3510, 18_876_174_592)]
#[case("transformer-2.3", 4186, 18_988_838_144)]
#[case("transformer-2.5", 4091, 18_987_859_200)]
fn tensors_of_the_transformer(#[case] name: &str, #[case] count: usize, #[case] parameters: i64) {
    let (config, theirs) = official(FILE, name);
    let config: TransformerConfig = serde_json::from_value(config).expect("reads");
    assert_eq!(config.check(), Ok(()));
    let ours = transformer::expected_tensors(&config).into_iter().collect();
    assert_official(&ours, &theirs, count, parameters);
}

#[rstest]
#[case("connectors-2.0", 59, 1_431_475_200)]
#[case("connectors-2.3", 262, 3_172_227_584)]
fn tensors_of_the_connectors(#[case] name: &str, #[case] count: usize, #[case] parameters: i64) {
    let (config, theirs) = official(FILE, name);
    let config: ConnectorsConfig = serde_json::from_value(config).expect("reads");
    assert_eq!(config.check(), Ok(()));
    let ours = connectors::expected_tensors(&config).into_iter().collect();
    assert_official(&ours, &theirs, count, parameters);
}
