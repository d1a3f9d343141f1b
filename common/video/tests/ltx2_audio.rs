//! The sound of LTX-2 against diffusers and torchaudio (`tests/reference/ltx2_audio.py`).

#[path = "../../../tests/fixtures/golden.rs"]
#[expect(dead_code, reason = "these tests load whole networks")]
mod golden;

use golden::{device, folder, relative, tensors};
use rstest::rstest;
use videosdgx_tensor::{Kind, Tensor, TensorError, catch_libtorch_errors};
use videosdgx_video::ltx2_audio::{Ltx2AudioVae, Ltx2AudioVaeConfig, Ltx2Vocoder, MelSpectrogram, resampled};
use videosdgx_video::wan_vae::VaeParts;

const PLAIN: &str = "ltx2-audio";
const WIDE: &str = "ltx2-audio-48k";

fn vae(kind: Kind) -> Ltx2AudioVae {
    Ltx2AudioVae::load(&folder(PLAIN).join("audio_vae"), VaeParts::Both, device(), kind).expect("loads")
}

fn vocoder(name: &str) -> Ltx2Vocoder {
    Ltx2Vocoder::load(&folder(name).join("vocoder"), device()).expect("loads")
}

#[track_caller]
fn check(what: &str, bound: f64, got: &Tensor, want: &Tensor) {
    assert_eq!(got.kind(), Kind::Float, "{what}");
    let error = relative(got, want);
    println!("{what}: {error:.1e}");
    assert!(error < bound, "{what}: {error:e}");
}

fn computed<T>(work: impl FnOnce() -> Result<T, TensorError>) -> T {
    catch_libtorch_errors(work).expect("computes")
}

fn sides(sound: &Tensor) -> Vec<Vec<f32>> {
    Vec::<Vec<f32>>::try_from(sound).expect("two rows")
}

#[rstest]
fn tokens_become_spectrograms_and_waveforms(
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
) {
    let golden = tensors(PLAIN);
    let (vae, vocoder) = (vae(kind), vocoder(PLAIN));
    assert_eq!(vocoder.sample_rate(), 24_000);
    assert_eq!(vocoder.config().check_with(vae.config()), Ok(()));
    let latents = vae.unpack(&vae.denormalize(&golden["tokens"]));
    assert_eq!(vae.config().mel_frames(5), 17);
    computed(|| {
        let mel = vae.decode(&latents)?;
        check(&format!("decoded in {kind:?}"), bound, &mel, &golden["decoded"]);
        let waveform = vocoder.synthesize(&mel)?;
        check(&format!("waveform after {kind:?}"), bound, &waveform, &golden["waveform"]);
        Ok(())
    });
    let tokens = vae.normalize(&vae.pack(&latents));
    check("tokens", 1e-6, &tokens, &golden["tokens"]);
}

#[test]
fn bandwidth_is_extended_to_48_khz() {
    let golden = tensors(WIDE);
    let vocoder = vocoder(WIDE);
    assert_eq!(vocoder.sample_rate(), 48_000);
    assert_eq!(vocoder.config().check_with(vae(Kind::Float).config()), Ok(()));
    computed(|| {
        check("48 kHz", 1e-4, &vocoder.synthesize(&golden["mel"])?, &golden["waveform"]);
        // The spectrogram of an autoencoder that computes in bf16.
        let rounded = golden["mel"].to_kind(Kind::BFloat16);
        check("48 kHz from bf16", 2e-2, &vocoder.synthesize(&rounded)?, &golden["waveform"]);
        Ok(())
    });
}

#[test]
fn given_sound_is_resampled_as_torchaudio_does() {
    let golden = tensors(PLAIN);
    let sound = sides(&golden["sound"]);
    for (from, length, name) in [(44_100, 5001, "resampled"), (11_025, 700, "resampled_up")] {
        let rows = sound.iter().map(|side| resampled(&side[..length], from, 16_000).expect("works"));
        let rows: Vec<Tensor> = rows.map(|row| Tensor::from_slice(&row)).collect();
        check(name, 1e-4, &Tensor::stack(&rows, 0), &golden[name]);
    }
}

#[test]
fn spectrograms_of_given_sound_are_those_of_the_training() {
    let golden = tensors(PLAIN);
    for (bins, name) in [(16, "mel"), (64, "mel_64")] {
        let config = Ltx2AudioVaeConfig { mel_bins: Some(bins), ..Ltx2AudioVaeConfig::default() };
        let spectrogram = MelSpectrogram::new(&config, device()).expect("is made");
        check(name, 1e-4, &computed(|| spectrogram.forward(&golden["resampled"])), &golden[name]);
    }
}

#[rstest]
fn given_sound_is_encoded(#[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64)) {
    let golden = tensors(PLAIN);
    let vae = vae(kind);
    computed(|| {
        let what = format!("in {kind:?}");
        check(&format!("encoded {what}"), bound, &vae.encode(&golden["mel"])?, &golden["encoded"]);
        let sound = sides(&golden["sound"]);
        let short = vae.encode_sound(&sound, 44_100, 5)?;
        check(&format!("with silence {what}"), bound, &short, &golden["encoded_with_silence"]);
        // Of sound that is longer than the clip, the rest does not count.
        let beginning = vae.encode_sound(&sound, 44_100, 2)?;
        check(&format!("cut off {what}"), bound, &beginning, &golden["encoded"].narrow(2, 0, 2));
        // One channel is both.
        let left = vae.encode_sound(&sound[..1], 44_100, 3)?;
        let both = vae.encode_sound(&[sound[0].clone(), sound[0].clone()], 44_100, 3)?;
        assert_eq!(left, both);
        Ok(())
    });
}

#[test]
fn a_beginning_decodes_to_the_beginning() {
    let vae = vae(Kind::Float);
    let latents = vae.unpack(&tensors(PLAIN)["tokens"]);
    computed(|| {
        let [all, beginning] = [5, 3].map(|frames| vae.decode(&latents.narrow(2, 0, frames)));
        check("beginning", 1e-6, &beginning?, &all?.narrow(2, 0, 9));
        Ok(())
    });
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let vae = vae(Kind::Float);
    let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, device()));
    let refused = |result: Result<Tensor, TensorError>, word: &str| {
        let error = result.expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(vae.decode(&zeros(&[1, 2, 0, 4])), "latents of sound");
    refused(vae.decode(&zeros(&[1, 2, 3, 5])), "latents of sound");
    refused(vae.decode(&zeros(&[2, 3, 4])), "latents of sound");
    refused(vae.encode(&zeros(&[1, 1, 8, 16])), "a mel spectrogram");
    refused(vocoder(PLAIN).synthesize(&zeros(&[1, 2, 8, 15])), "channels · mel bins = 32");
    refused(vae.encode_sound(&[], 44_100, 2), "no channel");
    refused(vae.encode_sound(&[vec![0.0; 9], vec![0.0; 8]], 44_100, 2), "different lengths");
    refused(vae.encode_sound(&[vec![0.0; 9]], 0, 2), "0 Hz");
    let spectrogram = MelSpectrogram::new(vae.config(), device()).expect("is made");
    refused(spectrogram.forward(&zeros(&[2, 512])), "513 samples");
    let nan = zeros(&[1, 2, 3, 4]).fill(f64::NAN);
    refused(computed(|| Ok(vae.decode(&nan))), "NaN");
    let decoder =
        Ltx2AudioVae::load(&folder(PLAIN).join("audio_vae"), VaeParts::Decoder, device(), Kind::Float)
            .expect("loads");
    refused(decoder.encode(&zeros(&[1, 2, 8, 16])), "not loaded");
    assert!(decoder.resident_bytes() < vae.resident_bytes());
}
