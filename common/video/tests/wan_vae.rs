//! The autoencoder against diffusers (`tests/reference/vae.py`), in f32 and in bf16, whole and tiled.

#[path = "../../../tests/fixtures/device.rs"]
mod device;

use std::collections::HashMap;
use std::path::PathBuf;

use device::device;
use tch::{Kind, Tensor};
use videosdgx_tensor::{TensorError, catch_libtorch_errors};
use videosdgx_video::wan_vae::{Tiling, VaeParts, WanVae};

const TILING: Tiling = Tiling { size: [32; 2], stride: [24; 2] };
const PRECISIONS: [(Kind, f64); 2] = [(Kind::Float, 1e-4), (Kind::BFloat16, 2e-2)];

fn fixtures() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures/vae"].iter().collect()
}

fn golden() -> HashMap<String, Tensor> {
    let device = device();
    let tensors =
        Tensor::read_safetensors(fixtures().join("golden.safetensors")).expect("the fixture can be read");
    tensors.into_iter().map(|(name, tensor)| (name, tensor.to_device(device))).collect()
}

fn load(kind: Kind) -> WanVae {
    WanVae::load(&fixtures().join("vae"), VaeParts::Both, device(), kind).expect("the fixture can be read")
}

#[track_caller]
fn check(what: &str, kind: Kind, tolerance: f64, got: &Tensor, want: &Tensor) {
    assert_eq!((got.size(), got.kind()), (want.size(), Kind::Float), "{what}");
    let norm = |x: &Tensor| f64::try_from(x.to_kind(Kind::Double).norm()).expect("a number");
    let error = norm(&(got - want)) / norm(want);
    println!("{what} in {kind:?}: {error:.1e}");
    assert!(error < tolerance, "{what} in {kind:?}: {error:e}");
}

fn run(compute: impl Fn(&WanVae, &HashMap<String, Tensor>) -> Tensor, want: &str) {
    let golden = golden();
    for (kind, tolerance) in PRECISIONS {
        let vae = load(kind);
        let got = catch_libtorch_errors(|| Ok::<_, TensorError>(compute(&vae, &golden)))
            .expect("the fixture can be read");
        check(want, kind, tolerance, &got, &golden[want]);
    }
}

#[test]
fn decodes_several_chunks_as_the_reference() {
    run(|vae, golden| vae.decode(&golden["latents"], None).unwrap(), "decoded");
}

#[test]
fn encodes_several_chunks_as_the_reference() {
    run(|vae, golden| vae.encode(&golden["video"], None).unwrap(), "encoded");
}

#[test]
fn encodes_a_first_frame_followed_by_gray_as_the_reference() {
    let first = |golden: &HashMap<String, Tensor>| golden["video"].select(2, 0);
    run(|vae, golden| vae.encode_first_frame(&first(golden), 9, None).unwrap(), "encoded_first_frame");
}

#[test]
fn decodes_tiles_as_the_reference() {
    run(|vae, golden| vae.decode(&golden["tiled_latents"], Some(TILING)).unwrap(), "tiled_decoded");
}

#[test]
fn encodes_tiles_as_the_reference() {
    run(|vae, golden| vae.encode(&golden["tiled_video"], Some(TILING)).unwrap(), "tiled_encoded");
}

#[test]
fn a_picture_that_fits_into_a_tile_is_not_tiled() {
    let golden = golden();
    let vae = load(Kind::Float);
    let decode = |tiling| catch_libtorch_errors(|| vae.decode(&golden["latents"], tiling)).unwrap();
    assert_eq!(decode(None), decode(Some(Tiling::default())));
}

#[test]
fn frames_come_one_by_one_as_bytes() {
    let golden = golden();
    let vae = load(Kind::Float);
    let mut frames = Vec::new();
    catch_libtorch_errors(|| {
        vae.decode_frames(&golden["latents"], None, |frame| {
            frames.push(frame.to_vec());
            Ok::<_, TensorError>(())
        })
    })
    .unwrap();
    assert_eq!(frames.len(), 13);
    let want = golden["decoded"].squeeze_dim(0).permute([1, 2, 3, 0]).reshape([13, -1]);
    for (index, frame) in frames.iter().enumerate() {
        let want = Vec::<f32>::try_from(want.select(0, index as i64)).unwrap();
        assert_eq!(frame.len(), want.len());
        for (got, want) in frame.iter().zip(want) {
            assert!((f32::from(*got) - (want + 1.0) * 127.5).abs() < 0.52);
        }
    }
}

#[test]
fn decoding_ends_when_the_receiver_fails() {
    let golden = golden();
    let vae = load(Kind::Float);
    let mut frames = 0;
    let result = catch_libtorch_errors(|| {
        vae.decode_frames(&golden["latents"], None, |_| {
            frames += 1;
            if frames == 2 { Err(TensorError::Libtorch("cancelled".to_owned())) } else { Ok(()) }
        })
    });
    assert!(matches!(result, Err(TensorError::Libtorch(word)) if word == "cancelled"));
    assert_eq!(frames, 2);
}

#[test]
fn normalisation_uses_the_statistics_of_the_checkpoint() {
    let vae = load(Kind::Float);
    let latents = golden()["latents"].shallow_clone();
    let normalized = vae.normalize(&latents);
    let want = (latents.select(1, 1) + 0.3) / 0.7;
    assert!(normalized.select(1, 1).allclose(&want, 1e-6, 1e-6, false));
    assert!(vae.denormalize(&normalized).allclose(&latents, 1e-5, 1e-6, false));
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let vae = load(Kind::Float);
    let float = (Kind::Float, device());
    let refused = |result: Result<Tensor, TensorError>, word: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(vae.decode(&Tensor::zeros([1, 5, 1, 4, 4], float), None), "latents");
    refused(vae.encode(&Tensor::zeros([1, 3, 4, 16, 16], float), None), "4k + 1");
    refused(vae.encode(&Tensor::zeros([1, 3, 5, 15, 16], float), None), "multiple of 8");
    refused(vae.encode_first_frame(&Tensor::zeros([3, 16, 16], float), 5, None), "picture");
    let gaps = Tiling { size: [16; 2], stride: [24; 2] };
    refused(vae.decode(&Tensor::zeros([1, 4, 1, 4, 4], float), Some(gaps)), "tile stride");
    let decoder = WanVae::load(&fixtures().join("vae"), VaeParts::Decoder, device(), Kind::Float).unwrap();
    refused(decoder.encode(&Tensor::zeros([1, 3, 5, 16, 16], float), None), "not loaded");
    assert!(decoder.resident_bytes() < vae.resident_bytes());
}
