//! LoRAs against diffusers and PEFT: every key layout, several at once, and beside quantised weights.

#[path = "../../../tests/fixtures/golden.rs"]
mod golden;

use golden::{folder, relative, tensors, weights};
use rstest::rstest;
use videosdgx_api::LoraChoice;
use videosdgx_diffusion::{DiffusionModel, LoraCatalog};
use videosdgx_tensor::{AdaptableLayers, Kind, Quantization, Tensor, TensorError, catch_libtorch_errors};
use wan21::Wan21;
use wan21::transformer::WanTransformer;

const BOUNDS: [(Kind, f64); 2] = [(Kind::Float, 1e-4), (Kind::BFloat16, 2e-2)];

fn load(fixture: &str, kind: Kind) -> (WanTransformer, AdaptableLayers) {
    let weights = weights(fixture, "transformer", kind, Quantization::None).adaptable();
    let config = weights.checkpoint().config().expect("config.json");
    let transformer = WanTransformer::load(&weights, config).expect("loads");
    assert_eq!(weights.unused(), Vec::<String>::new(), "every tensor is used");
    (transformer, weights.adaptable_layers())
}

/// The prediction for the inputs of a fixture.
fn predict(transformer: &WanTransformer, fixture: &str) -> Tensor {
    let inputs = tensors(fixture);
    catch_libtorch_errors(|| {
        let context = transformer.context(&[&inputs["prompt"]], inputs.get("image"));
        let rope = transformer.rope([3, 8, 10]);
        Ok::<_, TensorError>(transformer.forward(&inputs["latents"], 999.0, &context, &rope))
    })
    .expect("computes")
}

fn apply(loras: &str, choices: &[(&str, f64)], layers: &AdaptableLayers) {
    let choices: Vec<_> =
        choices.iter().map(|&(name, scale)| LoraChoice { name: name.to_owned(), scale }).collect();
    for lora in LoraCatalog::new(folder(loras)).choose(&choices).expect("is there") {
        lora.apply(layers, &Wan21::LORA_NAMES).expect("fits");
    }
}

#[rstest]
#[case::diffusers("diffusers", "transformer-t2v", &[("diffusers", 1.0)])]
#[case::metadata("metadata", "transformer-t2v", &[("metadata", 0.8)])]
#[case::original("original", "transformer-t2v", &[("original", 0.7)])]
#[case::comfy("comfy", "transformer-t2v", &[("comfy", 1.2)])]
#[case::kohya("kohya", "transformer-t2v", &[("kohya", -0.6)])]
#[case::full_differences("full", "transformer-t2v", &[("full", 0.9)])]
#[case::together("together", "transformer-t2v", &[("diffusers", 0.5), ("comfy", -0.4), ("kohya", 0.3)])]
#[case::image_layers("original-i2v", "transformer-i2v", &[("original-i2v", 0.9)])]
#[case::text_on_image("comfy-i2v", "transformer-i2v", &[("comfy", 1.0)])]
fn every_layout_agrees_with_diffusers(
    #[case] expected: &str,
    #[case] base: &str,
    #[case] loras: &[(&str, f64)],
) {
    let expected = &tensors("lora-wan")[expected];
    for (kind, bound) in BOUNDS {
        let (transformer, layers) = load(base, kind);
        let before = predict(&transformer, base);
        apply("lora-wan", loras, &layers);
        let changed = predict(&transformer, base);
        let error = relative(&changed, expected);
        println!("{loras:?} {kind:?}: {error:.2e}");
        assert!(error <= bound, "{loras:?} {kind:?}: {error:.2e}");
        assert!(relative(&before, expected) > 0.1, "the LoRA changes the output");
        layers.clear();
        assert!(predict(&transformer, base).equal(&before), "nothing remains");
    }
}

#[test]
fn a_base_in_nf4_is_changed_beside_its_values() {
    let golden = tensors("lora-wan-nf4");
    for (kind, bound) in BOUNDS {
        let (transformer, layers) = load("lora-wan-nf4", kind);
        let error = relative(&predict(&transformer, "lora-wan-nf4"), &golden["none"]);
        assert!(error <= bound, "the base: {error:.2e}");
        apply("lora-wan-nf4", &[("comfy", 0.8)], &layers);
        let error = relative(&predict(&transformer, "lora-wan-nf4"), &golden["comfy"]);
        println!("nf4 {kind:?}: {error:.2e}");
        assert!(error <= bound, "{kind:?}: {error:.2e}");
    }
}
