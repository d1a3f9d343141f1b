//! The transformer against diffusers on tiny random configurations.

#[path = "../../../tests/fixtures/golden.rs"]
mod golden;

use golden::{device, relative, tensors, weights};
use rstest::rstest;
use videosdgx_tensor::{Kind, Quantization, Tensor, TensorError, catch_libtorch_errors};
use wan21::transformer::WanTransformer;

fn load(name: &str, kind: Kind, quantization: Quantization) -> WanTransformer {
    let weights = weights(name, "transformer", kind, quantization);
    let config = weights.checkpoint().config().expect("config.json");
    let transformer = WanTransformer::load(&weights, config).expect("loads");
    assert_eq!(weights.unused(), Vec::<String>::new(), "every tensor is used");
    transformer
}

#[rstest]
fn agrees_with_diffusers(
    #[values("transformer-t2v", "transformer-i2v")] name: &str,
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
) {
    let golden = tensors(name);
    let transformer = load(name, kind, Quantization::None);
    let latents = &golden["latents"];
    let rope = transformer.rope([3, 8, 10]);
    catch_libtorch_errors(|| {
        let together = transformer.context(&[&golden["prompt"], &golden["negative"]], golden.get("image"));
        for timestep in ["999.0", "431.5"] {
            let time: f64 = timestep.parse().expect("a number");
            let both = transformer.forward(latents, time, &together, &rope);
            for (index, text) in ["prompt", "negative"].into_iter().enumerate() {
                let expected = &golden[&format!("{text}_{timestep}")];
                let alone = transformer.context(&[&golden[text]], golden.get("image"));
                let output = transformer.forward(latents, time, &alone, &rope);
                let error = relative(&output, expected);
                let error_together = relative(&both.narrow(0, index as i64, 1), expected);
                println!(
                    "{name} {kind:?} {text} {timestep}: {error:.2e} alone, {error_together:.2e} together"
                );
                assert!(error <= bound, "{text} at {timestep}: {error:.2e}");
                assert!(error_together <= bound, "{text} at {timestep}, together: {error_together:.2e}");
            }
        }
        Ok::<_, TensorError>(())
    })
    .expect("computes");
}

#[rstest]
#[case(Kind::Float)]
#[case(Kind::BFloat16)]
fn a_prompt_of_full_length_has_no_padding_token(#[case] kind: Kind) {
    let golden = tensors("transformer-t2v");
    let transformer = load("transformer-t2v", kind, Quantization::None);
    let rope = transformer.rope([3, 8, 10]);
    let filled = Tensor::zeros([512, 24], (Kind::Float, device()));
    filled.narrow(0, 0, 7).copy_(&golden["prompt"]);
    let output =
        transformer.forward(&golden["latents"], 999.0, &transformer.context(&[&filled], None), &rope);
    let error = relative(&output, &golden["prompt_999.0"]);
    assert!(error <= if kind == Kind::Float { 1e-4 } else { 2e-2 }, "{error:.2e}");
}

#[rstest]
fn fp8_stays_close(#[values("transformer-t2v", "transformer-i2v")] name: &str) {
    let golden = tensors(name);
    let dense = load(name, Kind::BFloat16, Quantization::None);
    let transformer = load(name, Kind::BFloat16, Quantization::Fp8);
    assert!(transformer.resident_bytes() < dense.resident_bytes());
    let rope = transformer.rope([3, 8, 10]);
    let context = transformer.context(&[&golden["prompt"]], golden.get("image"));
    let error =
        relative(&transformer.forward(&golden["latents"], 999.0, &context, &rope), &golden["prompt_999.0"]);
    println!("{name}: {error:.2e}");
    assert!(error < 0.1, "{error:.2e}");
}
