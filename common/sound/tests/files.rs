//! Files of every supported form decode to the same sound; the others are refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;
use std::path::PathBuf;

use hound::{SampleFormat, WavSpec, WavWriter};
use videosdgx_mp4::{SoundCodec, VideoFormat, VideoWriter};
use videosdgx_sound::{DecodeError, DecodeLimits, Sound, decode};

const RATE: u32 = 16_000;
const LIMITS: DecodeLimits = DecodeLimits { bytes: 1 << 20, seconds: 1.5 };
const BURSTS: [f64; 5] = [0.0, 0.11, 0.35, 0.72, 0.985];

/// One second of two channels: bursts of tones, the second channel 30 ms after the first.
fn bursts() -> Vec<Vec<f32>> {
    let channel = |delay: f64| {
        let mut samples = vec![0f32; RATE as usize];
        for start in BURSTS {
            for index in 0..RATE / 200 {
                let seconds = f64::from(index) / f64::from(RATE);
                let at = ((start + delay) * f64::from(RATE)).round() as usize + index as usize;
                let window = (std::f64::consts::PI * seconds * 200.0).sin().powi(2);
                if let Some(sample) = samples.get_mut(at) {
                    *sample = (0.8 * window * (std::f64::consts::TAU * 1200.0 * seconds).sin()) as f32;
                }
            }
        }
        samples
    };
    vec![channel(0.0), channel(0.03)]
}

fn wav(bits: u16, sample_format: SampleFormat, rate: u32, samples: &[Vec<f32>]) -> Vec<u8> {
    let spec =
        WavSpec { channels: samples.len() as u16, sample_rate: rate, bits_per_sample: bits, sample_format };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
    let scale = (2f64).powi(i32::from(bits) - 1) - 1.0;
    for index in 0..samples[0].len() {
        for channel in samples {
            match sample_format {
                SampleFormat::Float => writer.write_sample(channel[index]).unwrap(),
                SampleFormat::Int => {
                    writer.write_sample((f64::from(channel[index]) * scale).round() as i32).unwrap();
                }
            }
        }
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

/// The delay of `got` to `want` (at 8 kHz) in seconds, from the correlation of 40 ms to either side.
fn delay(want: &[f32], got: &[f32]) -> f64 {
    let loud: Vec<(usize, f32)> =
        want.iter().copied().enumerate().filter(|(_, sample)| *sample != 0.0).collect();
    let score = |shift: isize| -> f64 {
        let pairs = loud.iter().filter_map(|(index, sample)| {
            Some(f64::from(*sample) * f64::from(*got.get(index.checked_add_signed(shift)?)?))
        });
        pairs.sum()
    };
    let best = (-320..=320).map(|shift| (shift, score(shift))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    best.0 as f64 / 8_000.0
}

#[test]
fn wav_files_of_every_width_decode_to_the_same_samples() {
    let want = bursts();
    for (bits, format) in [
        (8, SampleFormat::Int),
        (16, SampleFormat::Int),
        (24, SampleFormat::Int),
        (32, SampleFormat::Int),
        (32, SampleFormat::Float),
    ] {
        for channels in [1, 2] {
            let sound = decode(&wav(bits, format, RATE, &want[..channels]), &LIMITS).unwrap();
            assert_eq!((sound.rate(), sound.channels(), sound.length()), (RATE, channels, RATE as usize));
            let tolerance =
                if format == SampleFormat::Float { 0.0 } else { (2f32).powi(1 - i32::from(bits)).max(1e-6) };
            for (got, want) in sound.samples().iter().flatten().zip(want.iter().flatten()) {
                assert!((got - want).abs() <= tolerance * 1.6, "{bits} bits: {got} is not {want}");
            }
        }
    }
}

#[test]
fn the_sound_of_mp4_files_begins_with_their_pictures() {
    let want = bursts();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    let ours = |codec: SoundCodec| {
        let format = VideoFormat::h264(32, 32, 8);
        let mut writer = VideoWriter::create(&path, format).unwrap();
        writer.add_sound(codec, RATE, &want).unwrap();
        (0..8).for_each(|_| writer.push_frame(&vec![0; format.frame_bytes()]).unwrap());
        writer.finish().unwrap();
        std::fs::read(&path).unwrap()
    };
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/sound/aac.mp4");
    for (name, bytes, rate) in [
        ("aac", std::fs::read(fixture).unwrap(), RATE),
        ("opus", ours(SoundCodec::Opus), 48_000),
        ("flac", ours(SoundCodec::Flac), RATE),
    ] {
        let sound = decode(&bytes, &LIMITS).unwrap();
        assert_eq!((sound.rate(), sound.channels()), (rate, 2), "{name}");
        assert!((sound.seconds() - 1.0).abs() < 0.02, "{name}: {} s", sound.seconds());
        for (channel, want) in sound.samples().iter().zip(&want) {
            let coarse = |samples: &[f32], rate: u32| -> Vec<f32> {
                samples.iter().step_by(rate as usize / 8_000).copied().collect()
            };
            let late = delay(&coarse(want, RATE), &coarse(channel, rate));
            assert!(late.abs() < 0.001, "{name}: late by {late} s");
        }
    }
}

#[test]
fn what_exceeds_a_limit_is_refused() {
    let second = vec![vec![0.0; RATE as usize]; 3];
    let refused = |bytes: &[u8], limits: DecodeLimits| decode(bytes, &limits).unwrap_err();
    let plain = wav(16, SampleFormat::Int, RATE, &second[..1]);
    let shorter = DecodeLimits { seconds: 0.5, ..LIMITS };
    assert!(matches!(refused(&plain, shorter), DecodeError::TooLong(_)));
    let smaller = DecodeLimits { bytes: 1000, ..LIMITS };
    assert!(matches!(refused(&plain, smaller), DecodeError::TooManyBytes(1000)));
    let three = wav(16, SampleFormat::Int, RATE, &second);
    assert!(matches!(refused(&three, LIMITS), DecodeError::Channels(3)));
    let slow = wav(16, SampleFormat::Int, 4_000, &second[..1]);
    assert!(matches!(refused(&slow, DecodeLimits { seconds: 60.0, ..LIMITS }), DecodeError::Rate(4_000)));
    let infinite = wav(32, SampleFormat::Float, RATE, &[vec![f32::INFINITY]]);
    assert!(matches!(refused(&infinite, LIMITS), DecodeError::NotFinite));
    assert!(matches!(refused(&wav(16, SampleFormat::Int, RATE, &[vec![]]), LIMITS), DecodeError::Empty));
}

#[test]
fn damaged_and_foreign_files_are_errors() {
    let whole = wav(16, SampleFormat::Int, RATE, &bursts()[..1]);
    for other in [&b""[..], b"RIFF", b"OggS\0\x02", b"ID3\x04", b"RIFF\0\0\0\0WEBPVP8 "] {
        assert!(matches!(decode(other, &LIMITS), Err(DecodeError::UnknownFormat)), "{other:?}");
    }
    // A header that promises more than there is, and every byte of the header flipped: never a panic.
    assert!(matches!(decode(&whole[..2000], &LIMITS), Err(DecodeError::Broken("WAV", _))));
    for at in 0..44 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        let sound: Option<Sound> = decode(&bytes, &LIMITS).ok();
        assert!(sound.is_none_or(|sound| sound.seconds() <= LIMITS.seconds), "{at}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("silent.mp4");
    let format = VideoFormat::h264(32, 32, 8);
    let mut writer = VideoWriter::create(&path, format).unwrap();
    writer.push_frame(&vec![0; format.frame_bytes()]).unwrap();
    writer.finish().unwrap();
    assert!(matches!(decode(&std::fs::read(&path).unwrap(), &LIMITS), Err(DecodeError::NoSound)));
}
