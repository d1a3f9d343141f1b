//! The engine on a tiny random checkpoint: every format, and the sound track of its files.

#[path = "../../../tests/fixtures/golden.rs"]
#[expect(dead_code, reason = "these tests need only the folder")]
mod golden;

#[path = "../../../tests/fixtures/formats.rs"]
mod formats;

use ltx2::Ltx2Engine;
use serde_json::{Value, json};
use videosdgx_diffusion::Settings;
use videosdgx_mp4::SoundReader;
use videosdgx_service::{Engine, GenerateContext, Interrupt};
use videosdgx_tensor::{ChosenDevice, Kind, Quantization};

fn engine() -> Ltx2Engine {
    let folder = golden::folder("ltx2-pipeline-2.3");
    Ltx2Engine::new(Settings {
        checkpoint: Some(folder.clone()),
        installed: folder.clone(),
        loras: folder.join("loras"),
        demonstration: folder,
        device: ChosenDevice::default(),
        kind: Kind::Float,
        quantization: Quantization::None,
    })
}

fn request() -> Value {
    json!({"prompt": "a red circle", "resolution": "64x64", "fps": 8, "steps": 2, "seed": 3})
}

#[test]
fn every_format_is_made_and_what_contradicts_itself_is_refused() {
    formats::makes_every_format(&engine(), &request());
    formats::refuses_by_name(&engine(), &request());
}

#[test]
fn files_have_the_models_sound_unless_the_request_refuses_it() {
    let engine = engine();
    let mut model = engine.load().expect("loads");
    let folder = tempfile::tempdir().expect("temporary folder");
    for (changes, codec) in [
        (json!({}), Some("opus")),
        (json!({"audio_format": "flac"}), Some("flac")),
        (json!({"audio": false}), None),
    ] {
        let mut request = request();
        request["num_frames"] = json!(17);
        for (name, value) in changes.as_object().expect("an object") {
            request[name] = value.clone();
        }
        let request = serde_json::from_value(request).expect("a request");
        let job = engine.resolve(&request).expect("valid");
        let path = folder.path().join("video.mp4");
        let context = GenerateContext::new(
            "ltx2-1".parse().expect("an id"),
            1,
            path.clone(),
            folder.path(),
            Interrupt::default(),
            |_, _, _| {},
        );
        engine.generate(&mut model, &job, &context).expect("generates");
        let sound = SoundReader::open(&path).and_then(|reader| reader.decode(10.0));
        assert_eq!(sound.is_ok(), codec.is_some(), "{changes}");
        if let Ok(sound) = sound {
            assert_eq!(sound.samples.len(), 2, "two channels");
            let seconds = sound.samples[0].len() as f64 / f64::from(sound.rate);
            // Whole frames of the spectrogram, at most one latent frame (40 ms) less than the picture.
            assert!((2.085..=2.125).contains(&seconds), "{changes}: {seconds} s");
            assert!(sound.samples[0].iter().any(|sample| sample.abs() > 1e-3), "{changes}: silence");
        }
    }
}
