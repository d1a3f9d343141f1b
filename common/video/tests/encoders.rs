//! UMT5 with its tokenizer and CLIP vision with its preprocessing against transformers and Pillow, on tiny random
//! configurations.

#[path = "../../../tests/fixtures/golden.rs"]
mod golden;

use golden::{device, folder, relative, tensors, weights};
use rstest::rstest;
use videosdgx_picture::{Filter, Picture};
use videosdgx_tensor::{CheckpointError, Kind, Quantization, Tensor, TensorError};
use videosdgx_video::text::{MAX_TOKENS, PromptEncoder, PromptTokenizer, TextEncoder, Umt5Encoder};
use videosdgx_video::wan_clip::{ClipPreprocessor, ClipVision, WanImageEncoder};

const LONG: &str =
    "the red circle moving right on a black background, le cercle sur fond noir and a zig zag cat dog";

fn prompts() -> Vec<(&'static str, String)> {
    let fixed = [("short", "a red circle"), ("long", LONG), ("empty", ""), ("unknown", "a größe 圆 circle")];
    let mut prompts: Vec<_> = fixed.into_iter().map(|(name, prompt)| (name, prompt.to_owned())).collect();
    prompts.push(("cut", "red circle ".repeat(400)));
    prompts
}

#[test]
fn prompts_become_the_reference_ids() {
    let golden = tensors("umt5");
    let tokenizer = PromptTokenizer::open(&folder("umt5").join("tokenizer"), MAX_TOKENS).expect("opens");
    for (name, prompt) in prompts() {
        let tokens = tokenizer.encode(&prompt).expect("encodes");
        let expected = Vec::<i64>::try_from(&golden[&format!("{name}_ids")]).expect("ids");
        assert_eq!(tokens.ids, expected, "{name}");
        assert_eq!(tokens.truncated, name == "cut");
        let unknown: &[&str] = if name == "unknown" { &["größe", "圆"] } else { &[] };
        if name != "long" {
            assert_eq!(tokens.unknown_words, unknown, "{name}");
        }
    }
}

#[rstest]
fn umt5_agrees_with_transformers(
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
) {
    let golden = tensors("umt5");
    let weights = weights("umt5", "text_encoder", kind, Quantization::None);
    let encoder = Umt5Encoder::load(&weights, weights.checkpoint().config().expect("config")).expect("loads");
    for (name, _) in prompts() {
        let ids = Vec::<i64>::try_from(&golden[&format!("{name}_ids")]).expect("ids");
        let expected = &golden[&format!("{name}_hidden")];
        let hidden = encoder.forward(&ids).expect("computes");
        assert_eq!(hidden.kind(), kind);
        // Of the longest only the last states are kept.
        let last = expected.size()[0];
        let error = relative(&hidden.narrow(0, hidden.size()[0] - last, last), expected);
        println!("{name} {kind:?}: {error:.2e}");
        assert!(error <= bound, "{name}: {error:.2e}");
    }
    assert_eq!(weights.unused(), Vec::<String>::new(), "every tensor has its place");
}

#[test]
fn umt5_in_fp8_stays_near() {
    let golden = tensors("umt5");
    let encoder =
        TextEncoder::load(&folder("umt5"), device(), Kind::BFloat16, Quantization::Fp8).expect("loads");
    let encoded = encoder.encode(LONG).expect("encodes");
    let error = relative(&encoded.embedding, &golden["long_hidden"]);
    println!("{error:.2e}");
    assert!(error < 0.1, "{error:.2e}");
}

#[test]
fn an_id_outside_the_vocabulary_is_an_error() {
    let weights = weights("umt5", "text_encoder", Kind::Float, Quantization::None);
    let encoder = Umt5Encoder::load(&weights, weights.checkpoint().config().expect("config")).expect("loads");
    let error = encoder.forward(&[1, 100_000]).expect_err("no such word");
    assert!(matches!(&error, TensorError::Checkpoint(CheckpointError::Invalid { .. })), "{error}");
}

fn picture(tensor: &Tensor) -> Picture {
    let size = tensor.size();
    let bytes = Vec::<u8>::try_from(tensor.flatten(0, -1)).expect("bytes");
    Picture::new(size[1] as usize, size[0] as usize, bytes).expect("a picture")
}

#[test]
fn pictures_are_resampled_as_pillow_does() {
    let golden = tensors("clip");
    let resized = picture(&golden["wide_image"]).resized(32, 48, Filter::Lanczos);
    assert_eq!(resized, picture(&golden["wide_lanczos"]));
    let processor = ClipPreprocessor::open(&folder("clip").join("image_processor")).expect("opens");
    for name in ["wide", "tall", "small"] {
        let pixels = processor.pixels(&picture(&golden[&format!("{name}_image")]));
        let error = relative(&pixels, &golden[&format!("{name}_pixels")]);
        assert!(error < 1e-6, "{name}: {error:.2e}");
    }
}

#[rstest]
fn clip_agrees_with_transformers(
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
) {
    let golden = tensors("clip");
    let encoder = WanImageEncoder::load(&folder("clip"), device(), kind).expect("loads");
    for name in ["wide", "tall", "small"] {
        let hidden = encoder.encode(&picture(&golden[&format!("{name}_image")])).expect("computes");
        let error = relative(&hidden, &golden[&format!("{name}_hidden")]);
        println!("{name} {kind:?}: {error:.2e}");
        assert!(error <= bound, "{name}: {error:.2e}");
    }
    let weights = weights("clip", "image_encoder_quick", kind, Quantization::None);
    let quick = ClipVision::load(&weights, weights.checkpoint().config().expect("config")).expect("loads");
    let error = relative(&quick.forward(&golden["wide_pixels"]).expect("computes"), &golden["quick_hidden"]);
    assert!(error <= bound, "quick_gelu: {error:.2e}");
    let last_layer =
        |name: &String| name.starts_with("encoder.layers.2.") || name.starts_with("post_layernorm.");
    assert!(weights.unused().iter().all(last_layer), "{:?}", weights.unused());
}
