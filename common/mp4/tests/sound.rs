//! Sound tracks begin with the picture, have the picture's length, and do not change what is seen.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;
use std::path::Path;

use videosdgx_mp4::{DecodedSound, Mp4Error, SoundCodec, SoundReader, VideoFormat, VideoReader, VideoWriter};

const FORMAT: VideoFormat =
    VideoFormat { codec: videosdgx_mp4::VideoCodec::H264, width: 64, height: 48, fps: 24 };

/// Bursts of 5 ms at these seconds: a pattern whose shift by any time can be seen.
const BURSTS: [f64; 5] = [0.0, 0.11, 0.35, 0.72, 0.985];

/// `channels` channels of one second at `rate`: bursts of tones, the second channel 30 ms after the first.
fn bursts(rate: u32, channels: usize) -> Vec<Vec<f32>> {
    let one = |delay: f64| {
        let mut samples = vec![0f32; rate as usize];
        for start in BURSTS {
            for index in 0..rate / 200 {
                let seconds = f64::from(index) / f64::from(rate);
                let at = ((start + delay) * f64::from(rate)).round() as usize + index as usize;
                let window = (std::f64::consts::PI * seconds * 200.0).sin().powi(2);
                if let Some(sample) = samples.get_mut(at) {
                    *sample = (0.8 * window * (std::f64::consts::TAU * 1200.0 * seconds).sin()) as f32;
                }
            }
        }
        samples
    };
    (0..channels).map(|channel| one(0.03 * channel as f64)).collect()
}

fn write(path: &Path, frames: usize, codec: SoundCodec, rate: u32, sound: &[Vec<f32>]) {
    let mut writer = VideoWriter::create(path, FORMAT).unwrap();
    for index in 0..frames {
        // The sound may come at any time.
        if index == frames / 2 {
            writer.add_sound(codec, rate, sound).unwrap();
        }
        writer.push_frame(&vec![(index * 8) as u8; FORMAT.frame_bytes()]).unwrap();
    }
    writer.finish().unwrap();
}

fn decode(path: &Path) -> DecodedSound {
    SoundReader::open(path).unwrap().decode(60.0).unwrap()
}

/// The delay of `got` in seconds by which it agrees best with `want` (at `rate`), and the correlation there. Delays of up to 60 ms
/// are tried, at 8 kHz.
fn delay(want: &[f32], rate: u32, got: &DecodedSound, channel: usize) -> (f64, f64) {
    let coarse = |samples: &[f32], rate: u32| -> Vec<f32> {
        samples.iter().step_by(rate as usize / 8_000).copied().collect()
    };
    let (want, got) = (coarse(want, rate), coarse(&got.samples[channel], got.rate));
    let energy = |samples: &[f32]| samples.iter().map(|s| f64::from(s * s)).sum::<f64>().sqrt();
    let score = |shift: isize| -> f64 {
        let pairs = want.iter().enumerate().filter_map(|(index, sample)| {
            Some(f64::from(*sample) * f64::from(*got.get(index.checked_add_signed(shift)?)?))
        });
        pairs.sum::<f64>() / (energy(&want) * energy(&got))
    };
    let best = (-480..=480).map(|shift| (shift, score(shift))).max_by(|a, b| a.1.total_cmp(&b.1));
    let (shift, score) = best.unwrap();
    (shift as f64 / 8_000.0, score)
}

#[test]
fn sound_begins_with_the_picture_and_is_as_long_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    let rates = [
        (SoundCodec::Opus, [8_000, 16_000, 24_000, 48_000]),
        (SoundCodec::Flac, [8_000, 24_000, 32_000, 48_000]),
    ];
    for (codec, rate, channels) in rates
        .into_iter()
        .flat_map(|(codec, rates)| rates.map(|rate| (codec, rate)))
        .flat_map(|(codec, rate)| [(codec, rate, 1), (codec, rate, 2)])
    {
        let sound = bursts(rate, channels);
        write(&path, 24, codec, rate, &sound);
        let reader = SoundReader::open(&path).unwrap();
        assert_eq!(reader.codec(), codec.name());
        assert!((reader.seconds() - 1.0).abs() < 1e-4, "{codec:?} {rate}: {} s", reader.seconds());
        let got = reader.decode(2.0).unwrap();
        assert_eq!(got.samples.len(), channels);
        let wanted_rate = if codec == SoundCodec::Opus { 48_000 } else { rate };
        assert_eq!((got.rate, got.samples[0].len()), (wanted_rate, wanted_rate as usize), "{codec:?} {rate}");
        for (channel, want) in sound.iter().enumerate() {
            let (seconds, score) = delay(want, rate, &got, channel);
            assert!(seconds.abs() < 0.001, "{codec:?} {rate}, channel {channel}: late by {seconds} s");
            assert!(score > 0.97, "{codec:?} {rate}, channel {channel}: {score}");
        }
    }
}

#[test]
fn flac_is_lossless_in_24_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    // Noise, full scale and beyond; lengths around a block's.
    for length in [1, 15, 31, 4095, 4096, 4097, 9_000] {
        let mut state = 7u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        };
        let mut sound: Vec<Vec<f32>> = (0..2).map(|_| (0..length).map(|_| noise()).collect()).collect();
        sound[0][0] = 1.5;
        sound[1][length / 2] = -1.5;
        write(&path, 3, SoundCodec::Flac, 32_000, &sound);
        let got = decode(&path);
        assert_eq!(got.rate, 32_000);
        for (got, want) in got.samples.iter().zip(&sound) {
            assert_eq!(got.len(), length);
            for (got, want) in got.iter().zip(want) {
                assert!((got - want.clamp(-1.0, 1.0)).abs() <= 1.2e-7, "{got} is not {want}");
            }
        }
    }
}

#[test]
fn the_picture_is_the_same_with_and_without_sound() {
    let folder = tempfile::tempdir().unwrap();
    let frames = |path: &Path| {
        let mut reader = VideoReader::open(path).unwrap();
        assert_eq!(reader.frames(), 60);
        assert!((reader.seconds() - 2.5).abs() < 1e-9);
        std::iter::from_fn(|| reader.next_frame().unwrap()).collect::<Vec<_>>()
    };
    let silent = folder.path().join("silent.mp4");
    let mut writer = VideoWriter::create(&silent, FORMAT).unwrap();
    (0..60).for_each(|index| writer.push_frame(&vec![(index * 8) as u8; FORMAT.frame_bytes()]).unwrap());
    writer.finish().unwrap();
    let want = frames(&silent);
    let sound: Vec<Vec<f32>> = bursts(48_000, 2).into_iter().map(|channel| channel.repeat(3)).collect();
    for codec in [SoundCodec::Opus, SoundCodec::Flac] {
        let path = folder.path().join("sounding.mp4");
        write(&path, 60, codec, 48_000, &sound);
        assert_eq!(frames(&path), want, "{codec:?}");
        assert_eq!(decode(&path).samples[1].len(), 3 * 48_000, "sound may be longer than the picture");
    }
}

/// A player that reads from the beginning never needs more than a second of one track before it has the other's.
#[test]
fn chunks_of_picture_and_sound_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    let sound: Vec<Vec<f32>> = bursts(24_000, 1).into_iter().map(|channel| channel.repeat(4)).collect();
    write(&path, 4 * 24, SoundCodec::Opus, 24_000, &sound);
    let file = std::fs::read(&path).unwrap();
    let offsets: Vec<Vec<u32>> = tables(&file, b"stco").map(|table| table[2..].to_vec()).collect();
    assert_eq!((offsets[0].len(), offsets[1].len()), (4, 4));
    for second in 0..4 {
        assert!(offsets[0][second] < offsets[1][second]);
        assert!(offsets[0].get(second + 1).is_none_or(|next| offsets[1][second] < *next));
    }
    let mdat = file.windows(4).position(|kind| kind == b"mdat").unwrap();
    assert_eq!(offsets[0][0] as usize, mdat + 12, "the media data begins with the first picture");
    let sizes: u64 = tables(&file, b"stsz").flat_map(|table| table[3..].to_vec()).map(u64::from).sum();
    assert_eq!(mdat as u64 + 12 + sizes, file.len() as u64, "no gaps");
}

/// The 32-bit words of each box of that kind, version and flags included.
fn tables<'a>(file: &'a [u8], kind: &'a [u8; 4]) -> impl Iterator<Item = Vec<u32>> + 'a {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let mdat = file.windows(4).position(|kind| kind == b"mdat").unwrap();
    let at = (4..mdat).filter(move |at| &file[*at..*at + 4] == kind);
    at.map(move |at| {
        let size = word(&file[at - 4..at]) as usize;
        file[at + 4..at - 4 + size].chunks_exact(4).map(word).collect()
    })
}

#[test]
fn sound_that_cannot_be_encoded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = VideoWriter::create(folder.path().join("video.mp4"), FORMAT).unwrap();
    let second = vec![0f32; 24_000];
    for (codec, rate, sound, word) in [
        (SoundCodec::Opus, 22_050, vec![second.clone()], "8, 12, 16, 24 or 48 kHz"),
        (SoundCodec::Opus, 24_000, vec![second.clone(); 3], "one or two channels"),
        (SoundCodec::Flac, 0, vec![second.clone()], "1 to 655350"),
        (SoundCodec::Flac, 24_000, vec![], "one or two channels"),
        (SoundCodec::Opus, 24_000, vec![vec![]], "there are none"),
        (SoundCodec::Opus, 24_000, vec![vec![0.0], vec![0.0; 2]], "differ in length"),
        (SoundCodec::Flac, 24_000, vec![vec![f32::NAN]], "NaN"),
    ] {
        let error = writer.add_sound(codec, rate, &sound).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    writer.add_sound(SoundCodec::Opus, 24_000, std::slice::from_ref(&second)).unwrap();
    assert!(matches!(writer.add_sound(SoundCodec::Opus, 24_000, &[second]), Err(Mp4Error::SoundSamples(_))));
}

#[test]
fn broken_and_foreign_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    let mut writer = VideoWriter::create(&path, FORMAT).unwrap();
    writer.push_frame(&vec![0; FORMAT.frame_bytes()]).unwrap();
    writer.finish().unwrap();
    assert!(matches!(SoundReader::open(&path), Err(Mp4Error::NoSound)));
    for codec in [SoundCodec::Opus, SoundCodec::Flac] {
        let sound = bursts(24_000, 2).into_iter().map(|channel| channel[..1_500].to_vec());
        write(&path, 2, codec, 24_000, &sound.collect::<Vec<_>>());
        assert!(matches!(SoundReader::open(&path).unwrap().decode(0.05), Err(Mp4Error::SoundTooLong(_))));
        let whole = std::fs::read(&path).unwrap();
        let index = whole.windows(4).position(|kind| kind == b"mdat").unwrap();
        // Every prefix, and every byte of the index flipped: never a panic, and never more than is allowed.
        let prefixes = (0..whole.len()).step_by(91).map(|end| whole[..end].to_vec());
        let flipped = (0..index).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            bytes
        });
        for bytes in prefixes.chain(flipped) {
            if let Ok(sound) = SoundReader::new(Cursor::new(bytes)).and_then(|reader| reader.decode(0.1)) {
                let most = 1.3 * f64::from(sound.rate);
                assert!(sound.samples.iter().all(|channel| channel.len() as f64 <= most));
            }
        }
    }
    // Another codec's name: refused here, and the picture can still be read.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|kind| kind == b"fLaC").unwrap();
    bytes[at..at + 4].copy_from_slice(b"ec-3");
    std::fs::write(&path, &bytes).unwrap();
    let error = SoundReader::open(&path).err().unwrap().to_string();
    assert!(error.contains("ec-3"), "{error}");
    assert_eq!(VideoReader::open(&path).unwrap().frames(), 2);
}
