//! The connectors against diffusers on tiny random configurations.

#[path = "../../../tests/fixtures/golden.rs"]
mod golden;

use std::collections::BTreeMap;

use golden::{relative, tensors, weights};
use ltx2::connectors::{Connectors, ConnectorsConfig, expected_tensors};
use rstest::rstest;
use videosdgx_tensor::{Kind, Quantization, TensorError, catch_libtorch_errors};

#[rstest]
fn agree_with_diffusers(
    #[values("2.0", "2.3", "interleaved")] version: &str,
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
) {
    let name = format!("ltx2-connectors-{version}");
    let golden = tensors(&name);
    let weights = weights(&name, "connectors", kind, Quantization::None);
    let config: ConnectorsConfig = weights.checkpoint().config().expect("config.json");
    let connectors = Connectors::load(&weights, config).expect("loads");
    assert_eq!(weights.unused(), Vec::<String>::new(), "every tensor is used");
    assert_eq!(connectors.resident_bytes(), weights.resident_bytes());
    for tokens in [5, 11, 16] {
        // Without the padding on the left; one tensor for each hidden state.
        let hidden = golden[&format!("{tokens}.hidden")].narrow(0, 16 - tokens, tokens).unbind(-1);
        let prompt = catch_libtorch_errors(|| Ok::<_, TensorError>(connectors.forward(&hidden, 16)));
        let prompt = prompt.expect("computes");
        for (stream, ours) in [("video", &prompt.video), ("audio", &prompt.audio)] {
            let error = relative(ours, &golden[&format!("{tokens}.{stream}")]);
            println!("{version} {kind:?} {tokens} {stream}: {error:.2e}");
            assert!(error <= bound, "{tokens} {stream}: {error:.2e}");
        }
    }
}

#[rstest]
fn the_list_of_tensors_is_the_checkpoints(#[values("2.0", "2.3", "interleaved")] version: &str) {
    let weights =
        weights(&format!("ltx2-connectors-{version}"), "connectors", Kind::Float, Quantization::None);
    let checkpoint = weights.checkpoint();
    let theirs: BTreeMap<_, _> = checkpoint
        .names()
        .map(|name| (name.to_owned(), checkpoint.entry(name).expect("is listed").shape.clone()))
        .collect();
    let config = checkpoint.config().expect("config.json");
    assert_eq!(expected_tensors(&config).into_iter().collect::<BTreeMap<_, _>>(), theirs);
}

#[test]
fn a_sequence_that_is_too_short_is_an_error() {
    let name = "ltx2-connectors-2.0";
    let weights = weights(name, "connectors", Kind::Float, Quantization::None);
    let config = weights.checkpoint().config().expect("config.json");
    let connectors = Connectors::load(&weights, config).expect("loads");
    let hidden = tensors(name)["16.hidden"].unbind(-1);
    for length in [8, 20] {
        let result = catch_libtorch_errors(|| Ok::<_, TensorError>(connectors.forward(&hidden, length)));
        assert!(result.is_err(), "16 tokens in {length}");
    }
}
