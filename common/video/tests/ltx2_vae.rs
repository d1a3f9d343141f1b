//! LTX-2's autoencoder and latent upsampler against diffusers (`tests/reference/ltx2_vae.py`), in f32 and in bf16.

#[path = "../../../tests/fixtures/device.rs"]
mod device;
#[path = "../../../tests/fixtures/hashed.rs"]
mod hashed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use device::device;
use hashed::{hashed, write_hashed};
use rstest::rstest;
use tch::{Kind, Tensor};
use videosdgx_picture::Picture;
use videosdgx_tensor::{Checkpoint, TensorError, catch_libtorch_errors, read_json};
use videosdgx_video::ltx2_vae::{
    Ltx2Upsampler, Ltx2UpsamplerConfig, Ltx2Vae, Ltx2VaeConfig, Tiling, VaeParts, adain_latents,
    tone_map_latents,
};

const PRECISIONS: [(Kind, f64); 2] = [(Kind::Float, 1e-4), (Kind::BFloat16, 2e-2)];

fn fixtures() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures/ltx2-vae"].iter().collect()
}

fn golden(name: &str) -> Tensor {
    let tensors =
        Tensor::read_safetensors(fixtures().join("golden.safetensors")).expect("the fixture can be read");
    let (_, tensor) = tensors.into_iter().find(|(key, _)| key == name).expect("the fixture has it");
    tensor.to_device(device())
}

/// A folder with the configuration of a fixture and weights made from their names.
fn made(config: &Path, tensors: &[(String, Vec<i64>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for a checkpoint");
    std::fs::copy(config, folder.path().join("config.json")).expect("the configuration can be copied");
    write_hashed(&folder.path().join("model.safetensors"), tensors, |name, value| {
        // As the reference does, so that frames are not clamped.
        if name == "decoder.conv_out.conv.weight" { value * 0.25 } else { value }
    });
    folder
}

fn load_variant(variant: &str, kind: Kind) -> Ltx2Vae {
    let config = fixtures().join("variants").join(variant).join("config.json");
    let parsed: Ltx2VaeConfig = read_json(&config).expect("the fixture can be read");
    let tensors = parsed.expected_tensors(VaeParts::Both).expect("a supported configuration");
    let folder = made(&config, &tensors);
    Ltx2Vae::load(folder.path(), VaeParts::Both, device(), kind).expect("the checkpoint can be read")
}

fn load(kind: Kind) -> Ltx2Vae {
    Ltx2Vae::load(&fixtures().join("vae"), VaeParts::Both, device(), kind).expect("the fixture can be read")
}

fn latents(name: &str, shape: [i64; 4]) -> Tensor {
    let shape = [1, shape[0], shape[1], shape[2], shape[3]];
    hashed(name, &shape).to_device(device()) * 1.5
}

fn video(name: &str, [frames, height, width]: [i64; 3]) -> Tensor {
    hashed(name, &[1, 3, frames, height, width]).to_device(device())
}

#[track_caller]
fn check(what: &str, (kind, tolerance): (Kind, f64), got: &Tensor, want: &Tensor) {
    assert_eq!((got.size(), got.kind()), (want.size(), Kind::Float), "{what}");
    let norm = |x: &Tensor| f64::try_from(x.to_kind(Kind::Double).norm()).expect("a number");
    let error = norm(&(got - want)) / norm(want);
    println!("{what} in {kind:?}: {error:.1e}");
    assert!(error < tolerance, "{what} in {kind:?}: {error:e}");
}

fn computed(compute: impl FnOnce() -> Result<Tensor, TensorError>) -> Tensor {
    catch_libtorch_errors(compute).expect("it can be computed")
}

/// `""` is the fixture's checkpoint, of LTX-2.3's architecture.
#[rstest]
fn agrees_with_the_reference(#[values("", "ltx-2.0", "causal")] variant: &str) {
    for precision in PRECISIONS {
        let vae = if variant.is_empty() { load(precision.0) } else { load_variant(variant, precision.0) };
        let (space, time) = (vae.config().spatial_factor(), vae.config().temporal_factor());
        let z = vae.config().latent_channels;
        let step = if space == 32 { 15 } else { 5 };
        let thinned = |frames: Tensor| frames.slice(3, 0, None::<i64>, step).slice(4, 0, None::<i64>, step);
        let tiling = Some(Tiling { size: [4 * space; 2], stride: [2 * space; 2] });
        let encode = |name, shape: [i64; 3], tiling| {
            let [frames, rows, columns] = shape;
            computed(|| vae.encode(&video(name, [frames, rows * space, columns * space]), tiling))
        };
        let decode = |name, [frames, rows, columns]: [i64; 3], tiling| {
            computed(|| vae.decode(&latents(name, [z, frames, rows, columns]), tiling).map(thinned))
        };
        let prefix = if variant.is_empty() { String::new() } else { format!("{variant}.") };
        let agrees = |name: &str, got: Tensor| {
            let name = format!("{prefix}{name}");
            check(&name, precision, &got, &golden(&name));
        };
        agrees("encoded", encode("video", [1 + 2 * time, 2, 3], None));
        agrees("encoded_picture", encode("picture", [1, 3, 2], None));
        agrees("decoded", decode("latents", [4, 2, 3], None));
        agrees("decoded_picture", decode("latent", [1, 3, 2], None));
        agrees("tiled_encoded", encode("tiled_video", [1 + time, 4, 6], tiling));
        agrees("tiled_decoded", decode("tiled_latents", [2, 6, 4], tiling));
    }
}

#[rstest]
fn upsamples_as_the_reference(
    #[values("", "rational-2", "rational-1.5", "rational-0.75", "temporal", "both")] variant: &str,
) {
    let made = (!variant.is_empty()).then(|| {
        let config = fixtures().join("upsamplers").join(variant).join("config.json");
        let parsed: Ltx2UpsamplerConfig = read_json(&config).expect("the fixture can be read");
        made(&config, &parsed.expected_tensors().expect("a supported configuration"))
    });
    let folder = made.as_ref().map_or(fixtures().join("latent_upsampler"), |folder| folder.path().to_owned());
    let name = if variant.is_empty() { "upsampled".to_owned() } else { format!("{variant}.upsampled") };
    for precision in PRECISIONS {
        let upsampler =
            Ltx2Upsampler::load(&folder, device(), precision.0).expect("the checkpoint can be read");
        let got = computed(|| upsampler.forward(&latents("upsampler", [16, 3, 4, 5])));
        check(&name, precision, &got, &golden(&name));
        let [frames, rows, columns] = upsampler.config().output_size([3, 4, 5]).expect("supported");
        assert_eq!(got.size(), [1, 16, frames, rows, columns]);
    }
}

#[test]
fn corrects_upsampled_latents_as_the_reference() {
    let vae = load(Kind::Float);
    let upsampler = Ltx2Upsampler::load(&fixtures().join("latent_upsampler"), device(), Kind::Float)
        .expect("the fixture can be read");
    let got = computed(|| {
        let latents = vae.denormalize(&latents("normalized", [16, 2, 2, 3]));
        let upsampled = upsampler.forward(&latents)?;
        Ok(tone_map_latents(&adain_latents(&upsampled, &latents, 0.6), 0.7))
    });
    check("pipeline", PRECISIONS[0], &got, &golden("pipeline"));
}

/// Loading reads exactly the tensors that `expected_tensors` lists, and these are the official ones.
#[rstest]
#[case("vae-2.0", 1_222_479_857)]
#[case("vae-2.3", 726_106_225)]
#[case("upsampler-2.0", 497_867_929)]
#[case("upsampler-2.3", 497_867_904)]
fn names_and_shapes_are_the_published_ones(#[case] name: &str, #[case] parameters: i64) {
    let mut all: serde_json::Value =
        read_json(&fixtures().join("official.json")).expect("the fixture can be read");
    let official = all[name].take();
    let theirs: BTreeMap<String, Vec<i64>> =
        serde_json::from_value(official["tensors"].clone()).expect("names and shapes");
    let config = official["config"].clone();
    let ours = if name.starts_with("vae") {
        let config: Ltx2VaeConfig = serde_json::from_value(config).expect("a configuration");
        config.expected_tensors(VaeParts::Both)
    } else {
        let config: Ltx2UpsamplerConfig = serde_json::from_value(config).expect("a configuration");
        config.expected_tensors()
    };
    let ours: BTreeMap<String, Vec<i64>> = ours.expect("a supported configuration").into_iter().collect();
    assert_eq!(ours, theirs);
    assert_eq!(theirs.values().map(|shape| shape.iter().product::<i64>()).sum::<i64>(), parameters);
}

#[test]
fn loading_reads_every_tensor() {
    for (part, bytes) in [
        ("vae", load(Kind::BFloat16).resident_bytes()),
        ("latent_upsampler", {
            let folder = fixtures().join("latent_upsampler");
            Ltx2Upsampler::load(&folder, device(), Kind::BFloat16)
                .expect("the fixture can be read")
                .resident_bytes()
        }),
    ] {
        let checkpoint = Checkpoint::open(fixtures().join(part)).expect("the fixture can be read");
        let statistics = checkpoint.entry("latents_mean").map_or(0, |entry| 2 * entry.bytes);
        // The statistics of the latents are kept in f32.
        assert_eq!(bytes, checkpoint.stored_bytes() + statistics, "{part}");
    }
}

#[test]
fn a_picture_is_encoded_for_conditioning() {
    let vae = load(Kind::Float);
    let pixels: Vec<u8> = (0..64 * 32 * 3).map(|index| (index * 7 % 251) as u8).collect();
    let picture = Picture::new(32, 64, pixels.clone()).expect("the size fits");
    let got = computed(|| vae.encode_picture(&picture, None));
    let video =
        Tensor::from_slice(&pixels).view([64, 32, 3]).permute([2, 0, 1]).to_kind(Kind::Float) / 127.5 - 1.0;
    let video = video.view([1, 3, 1, 64, 32]).to_device(device());
    let want = computed(|| vae.encode(&video, None).map(|latents| vae.normalize(&latents)));
    check("picture", (Kind::Float, 1e-5), &got, &want);
    let deviation =
        f64::try_from((vae.denormalize(&got) - vae.encode(&video, None).unwrap()).abs().max()).unwrap();
    assert!(deviation < 1e-5, "{deviation}");
}

#[test]
fn far_from_its_border_a_tile_is_the_whole() {
    let vae = load(Kind::Float);
    let latents = latents("tiled_latents", [16, 2, 14, 4]);
    let whole = computed(|| vae.decode(&latents, None));
    let tiled = computed(|| vae.decode(&latents, Some(Tiling { size: [384, 128], stride: [192, 128] })));
    let difference = |rows: i64| {
        let [whole, tiled] = [&whole, &tiled].map(|frames| frames.narrow(3, 0, 32 * rows));
        f64::try_from((tiled - &whole).norm() / whole.norm()).unwrap()
    };
    // The first tile ends after 12 latents, and a pixel sees 7.4 latents on each side.
    assert!(difference(4) < 1e-5, "{}", difference(4));
    assert!(difference(14) > 1e-3, "nothing was tiled");
    let fits = computed(|| vae.decode(&latents, Some(Ltx2Vae::TILING)));
    assert_eq!(fits, whole);
}

#[test]
fn latents_of_one_pixel_are_decoded_with_reflected_borders() {
    let vae = load_variant("ltx-2.0", Kind::Float);
    for [rows, columns] in [[1, 1], [1, 3], [3, 1]] {
        let frames = computed(|| vae.decode(&latents("small", [16, 2, rows, columns]), None));
        assert_eq!(frames.size(), [1, 3, 9, 32 * rows, 32 * columns]);
    }
}

#[test]
fn frames_come_one_by_one_as_bytes() {
    let vae = load(Kind::Float);
    let latents = latents("latents", [16, 4, 2, 3]);
    let mut frames = Vec::new();
    catch_libtorch_errors(|| {
        vae.decode_frames(&latents, None, |frame| {
            frames.push(frame.to_vec());
            Ok::<_, TensorError>(())
        })
    })
    .unwrap();
    assert_eq!(frames.len(), 25);
    let want = computed(|| vae.decode(&latents, None)).squeeze_dim(0).permute([1, 2, 3, 0]).reshape([25, -1]);
    for (index, frame) in frames.iter().enumerate() {
        let want = Vec::<f32>::try_from(want.select(0, index as i64)).unwrap();
        assert_eq!(frame.len(), want.len());
        assert!(
            frame.iter().zip(want).all(|(got, want)| (f32::from(*got) - (want + 1.0) * 127.5).abs() < 0.52)
        );
    }
}

#[test]
fn decoding_ends_when_the_receiver_fails() {
    let vae = load(Kind::Float);
    let mut frames = 0;
    let result = catch_libtorch_errors(|| {
        vae.decode_frames(&latents("latents", [16, 4, 2, 3]), None, |_| {
            frames += 1;
            if frames == 2 { Err(TensorError::Libtorch("cancelled".to_owned())) } else { Ok(()) }
        })
    });
    assert!(matches!(result, Err(TensorError::Libtorch(word)) if word == "cancelled"));
    assert_eq!(frames, 2);
}

#[test]
fn bad_input_and_bad_values_are_errors() {
    let vae = load(Kind::Float);
    let float = (Kind::Float, device());
    let refused = |result: Result<Tensor, TensorError>, word: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(vae.decode(&Tensor::zeros([1, 5, 1, 4, 4], float), None), "latents must be [1, 16");
    refused(vae.decode(&Tensor::zeros([1, 16, 0, 4, 4], float), None), "latents");
    refused(vae.decode(&Tensor::full([1, 16, 1, 1, 1], f64::NAN, float), None), "NaN");
    refused(vae.encode(&Tensor::zeros([1, 3, 4, 32, 32], float), None), "8k + 1");
    refused(vae.encode(&Tensor::zeros([1, 3, 9, 48, 32], float), None), "multiple of 32");
    refused(vae.encode(&Tensor::zeros([3, 9, 32, 32], float), None), "video");
    let uneven = Tiling { size: [64; 2], stride: [48; 2] };
    refused(vae.decode(&Tensor::zeros([1, 16, 1, 4, 4], float), Some(uneven)), "multiples of 32");
    refused(vae.encode(&Tensor::zeros([1, 3, 1, 128, 128], float), Some(uneven)), "multiples of 32");
    let decoder = Ltx2Vae::load(&fixtures().join("vae"), VaeParts::Decoder, device(), Kind::Float).unwrap();
    refused(decoder.encode(&Tensor::zeros([1, 3, 9, 32, 32], float), None), "not loaded");
    assert!(decoder.resident_bytes() < vae.resident_bytes());
    let upsampler = Ltx2Upsampler::load(&fixtures().join("latent_upsampler"), device(), Kind::Float).unwrap();
    refused(upsampler.forward(&Tensor::zeros([1, 4, 1, 4, 4], float)), "latents must be [1, 16");
    refused(upsampler.forward(&Tensor::full([1, 16, 1, 4, 4], f64::NAN, float)), "NaN");
    let Err(error) = Ltx2Upsampler::load(&fixtures().join("vae"), device(), Kind::Float) else {
        panic!("the autoencoder is no upsampler");
    };
    assert!(error.to_string().contains("initial_conv.weight"), "{error}");
}
