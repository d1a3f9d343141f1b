//! LoRAs on the transformer against diffusers and PEFT: every key layout, and several at once.

#[path = "../../../tests/fixtures/golden.rs"]
mod golden;

use std::collections::HashMap;

use golden::{folder, relative, tensors, weights};
use ltx2::LORA_NAMES;
use ltx2::transformer::{Branch, Latents, LtxTransformer, Prompt, Times, Velocity};
use rstest::rstest;
use videosdgx_api::LoraChoice;
use videosdgx_diffusion::LoraCatalog;
use videosdgx_tensor::{AdaptableLayers, Kind, Quantization, Tensor, TensorError, catch_libtorch_errors};

const BASE: &str = "ltx2-transformer-2.3";
const BOUNDS: &[(Kind, f64)] = &[(Kind::Float, 1e-4), (Kind::BFloat16, 2e-2)];

fn load(kind: Kind, quantization: Quantization) -> (LtxTransformer, AdaptableLayers) {
    let weights = weights(BASE, "transformer", kind, quantization).adaptable();
    let config = weights.checkpoint().config().expect("config.json");
    let transformer = LtxTransformer::load(&weights, config).expect("loads");
    (transformer, weights.adaptable_layers())
}

/// The prediction for the prompt of the transformer's fixture.
fn predict(transformer: &LtxTransformer, inputs: &HashMap<String, Tensor>) -> Velocity {
    let config = transformer.config();
    catch_libtorch_errors(|| {
        let prompt =
            Prompt { video: &inputs["prompt.video"], audio: Some(&inputs["prompt.audio"]), mask: None };
        let branch = Branch { prompt: 0, perturbed: false, isolated: false };
        let context = transformer.context(&[prompt], &[branch], &[1]);
        let video = config.video_coordinates([3, 2, 3], 25.0);
        let positions = transformer.positions(&video, Some(&config.audio_coordinates(7)), None);
        let latents = Latents { video: &inputs["video"], audio: Some(&inputs["audio"]) };
        Ok::<_, TensorError>(transformer.forward(latents, &Times::uniform(700.0), &context, &positions))
    })
    .expect("computes")
}

fn apply(loras: &[(&str, f64)], layers: &AdaptableLayers) {
    let choices: Vec<_> =
        loras.iter().map(|&(name, scale)| LoraChoice { name: name.to_owned(), scale }).collect();
    for lora in LoraCatalog::new(folder("lora-ltx2")).choose(&choices).expect("is there") {
        lora.apply(layers, &LORA_NAMES).expect("fits");
    }
}

fn streams(velocity: &Velocity) -> [(&'static str, Tensor); 2] {
    let audio = velocity.audio.as_ref().expect("there is sound");
    [("video", velocity.video.select(0, 0)), ("audio", audio.select(0, 0))]
}

#[rstest]
#[case::diffusers("diffusers", &[("diffusers", 1.0)])]
#[case::original("original", &[("original", 0.7)])]
#[case::comfy("comfy", &[("comfy", -0.8)])]
#[case::together("together", &[("diffusers", 0.5), ("original", -0.4), ("comfy", 0.3)])]
fn every_layout_agrees_with_diffusers(#[case] expected: &str, #[case] loras: &[(&str, f64)]) {
    let (inputs, golden) = (tensors(BASE), tensors("lora-ltx2"));
    for &(kind, bound) in BOUNDS {
        let (transformer, layers) = load(kind, Quantization::None);
        let before = predict(&transformer, &inputs);
        apply(loras, &layers);
        let changed = predict(&transformer, &inputs);
        layers.clear();
        let after = predict(&transformer, &inputs);
        for ((stream, changed), ((_, before), (_, after))) in
            streams(&changed).into_iter().zip(streams(&before).into_iter().zip(streams(&after)))
        {
            let expected = &golden[&format!("{expected}.out.{stream}")];
            let error = relative(&changed, expected);
            println!("{loras:?} {kind:?} {stream}: {error:.2e}");
            assert!(error <= bound, "{loras:?} {kind:?} {stream}: {error:.2e}");
            assert!(relative(&before, expected) > 0.1, "the LoRA changes the output");
            assert!(after.equal(&before), "nothing remains");
        }
    }
}
