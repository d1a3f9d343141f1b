//! MP4 files with sound as other programs see them: ffprobe and ffmpeg, and Chromium.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use videosdgx_mp4::{SoundCodec, VideoFormat, VideoWriter};
use videosdgx_tests::PageServer;

const FORMAT: VideoFormat =
    VideoFormat { codec: videosdgx_mp4::VideoCodec::H264, width: 96, height: 64, fps: 24 };
const FRAMES: u32 = 60;
const RATE: u32 = 48_000;
/// When the left channel clicks, in seconds; the right one clicks 40 ms later.
const CLICKS: [f64; 4] = [0.05, 0.61, 1.3, 2.2];
const RIGHT_DELAY: f64 = 0.04;
/// Sound and picture may be apart by this many seconds.
const TOLERANCE: f64 = 0.02;

/// 2.5 seconds of pictures and sound.
fn write(path: &Path, codec: SoundCodec) -> Result<()> {
    let channel = |delay: f64| {
        let mut samples = vec![0f32; (FRAMES * RATE / FORMAT.fps) as usize];
        for click in CLICKS {
            let start = ((click + delay) * f64::from(RATE)).round() as usize;
            for (index, sample) in samples[start..start + 96].iter_mut().enumerate() {
                *sample = 0.9 * (index as f32 * 0.4).sin() * (1.0 - index as f32 / 96.0);
            }
        }
        samples
    };
    let mut writer = VideoWriter::create(path, FORMAT)?;
    writer.add_sound(codec, RATE, &[channel(0.0), channel(RIGHT_DELAY)])?;
    for index in 0..FRAMES {
        writer.push_frame(&vec![(index * 4) as u8; FORMAT.frame_bytes()])?;
    }
    writer.finish()?;
    Ok(())
}

/// Whether the channel is loud within the tolerance of each click and nowhere else.
fn check_clicks(channel: &[f32], rate: u32, delay: f64) -> Result<()> {
    let loud: Vec<f64> = channel
        .iter()
        .enumerate()
        .filter(|(_, sample)| sample.abs() > 0.3)
        .map(|(index, _)| index as f64 / f64::from(rate))
        .collect();
    for click in CLICKS.map(|click| click + delay) {
        ensure!(loud.iter().any(|at| (at - click).abs() < TOLERANCE), "no click at {click}: {loud:?}");
    }
    let stray = loud.iter().find(|at| !CLICKS.iter().any(|click| (*at - click - delay).abs() < TOLERANCE));
    ensure!(stray.is_none(), "a click at {stray:?}");
    Ok(())
}

fn output(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}: scripts/test installs it where it may"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && errors.is_empty(), "{program} {arguments:?}: {errors}");
    Ok(output.stdout)
}

#[test]
fn ffmpeg_finds_sound_and_picture_in_step() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("video.mp4");
    let file = path.to_str().context("a path")?;
    for codec in [SoundCodec::Opus, SoundCodec::Flac] {
        write(&path, codec)?;
        let probed = output(
            "ffprobe",
            &["-v", "warning", "-count_packets", "-show_streams", "-show_format", "-of", "json", file],
        )?;
        let probed: Value = serde_json::from_slice(&probed)?;
        let seconds = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
        let [picture, sound] = [&probed["streams"][0], &probed["streams"][1]];
        assert_eq!((&picture["codec_name"], &picture["nb_read_packets"]), (&json!("h264"), &json!("60")));
        assert_eq!(sound["codec_name"], codec.name(), "{probed}");
        assert_eq!((&sound["channels"], &sound["sample_rate"]), (&json!(2), &json!("48000")));
        for stream in [picture, sound] {
            let (start, duration) = (seconds(&stream["start_time"]), seconds(&stream["duration"]));
            ensure!(start.is_some_and(|start| start.abs() < TOLERANCE), "{stream}");
            ensure!(duration.is_some_and(|duration| (duration - 2.5).abs() < TOLERANCE), "{stream}");
        }
        ensure!(seconds(&probed["format"]["duration"]).is_some_and(|all| (all - 2.5).abs() < TOLERANCE));
        let raw = output(
            "ffmpeg",
            &["-v", "warning", "-i", file, "-map", "0:a", "-f", "f32le", "-ac", "2", "-ar", "48000", "-"],
        )?;
        let samples: Vec<f32> =
            raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        ensure!((samples.len() / 2).abs_diff(120_000) < 960, "{} samples", samples.len() / 2);
        for (index, delay) in [0.0, RIGHT_DELAY].into_iter().enumerate() {
            let channel: Vec<f32> = samples.iter().skip(index).step_by(2).copied().collect();
            check_clicks(&channel, RATE, delay).with_context(|| format!("{codec:?}, channel {index}"))?;
        }
    }
    Ok(())
}

/// Decodes the files, and plays them in a media element.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><script type="module">
const report = (what) => fetch("/report", { method: "POST", body: JSON.stringify(what) });
const files = FILES;
const bytes = (file) => Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
const decode = async (file) => {
  const sound = await new OfflineAudioContext(2, 48000, 48000).decodeAudioData(bytes(file).buffer);
  const loud = [];
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const samples = sound.getChannelData(channel);
    loud.push([...samples.keys()].filter((at) => Math.abs(samples[at]) > 0.3));
  }
  return { rate: sound.sampleRate, length: sound.length, loud };
};
const play = (file) => new Promise((resolve) => {
  const video = document.createElement("video");
  const end = (error) => resolve({
    error, width: video.videoWidth, duration: video.duration, time: video.currentTime,
    pictures: video.webkitDecodedFrameCount, sound: video.webkitAudioDecodedByteCount,
  });
  video.muted = true;
  video.onended = () => end(null);
  video.onerror = () => end(video.error.message || "error");
  video.src = URL.createObjectURL(new Blob([bytes(file)], { type: "video/mp4" }));
  document.body.append(video);
  video.play().catch((error) => end(String(error)));
});
addEventListener("DOMContentLoaded", async () => {
  const found = {};
  await Promise.all(Object.entries(files).map(async ([name, file]) => {
    const [decoded, played] = await Promise.all([decode(file).catch((error) => ({ error: String(error) })), play(file)]);
    found[name] = { decoded, played };
  }));
  await report(found);
});
</script><body>"#;

#[tokio::test]
async fn a_browser_plays_sound_and_picture_in_step() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("video.mp4");
    let mut files = serde_json::Map::new();
    for codec in [SoundCodec::Opus, SoundCodec::Flac] {
        write(&path, codec)?;
        let file = std::fs::read(&path)?;
        files.insert(codec.name().to_owned(), STANDARD.encode(&file).into());
        if codec == SoundCodec::Opus {
            // A player that does not know the codec of the sound.
            let mut unknown = file;
            let at = unknown.windows(4).position(|kind| kind == b"Opus").context("a sample entry")?;
            unknown[at..at + 4].copy_from_slice(b"zzzz");
            files.insert("unknown".to_owned(), STANDARD.encode(&unknown).into());
        }
    }
    let server = PageServer::start().await?;
    let reported = server.report_of(&PAGE.replace("FILES", &Value::Object(files).to_string())).await?;
    for name in ["opus", "flac", "unknown"] {
        let played = &reported[name]["played"];
        assert_eq!((&played["error"], &played["width"]), (&Value::Null, &json!(96)), "{name}: {reported}");
        let duration = played["duration"].as_f64().context("a duration")?;
        ensure!((duration - 2.5).abs() < TOLERANCE, "{name}: {duration} s");
        ensure!(played["pictures"].as_u64().is_some_and(|pictures| pictures > 0), "{name}: {played}");
        ensure!((played["sound"].as_u64() > Some(0)) == (name != "unknown"), "{name}: {played}");
    }
    for name in ["opus", "flac"] {
        let decoded = &reported[name]["decoded"];
        let length = decoded["length"].as_f64().with_context(|| format!("{name}: {decoded}"))? / 48_000.0;
        ensure!((length - 2.5).abs() < TOLERANCE, "{name}: {length} s");
        for (index, delay) in [0.0, RIGHT_DELAY].into_iter().enumerate() {
            let mut channel = vec![0f32; 130_000];
            for at in decoded["loud"][index].as_array().context("samples")? {
                channel[at.as_u64().context("an index")? as usize] = 1.0;
            }
            check_clicks(&channel, RATE, delay).with_context(|| format!("{name}, channel {index}"))?;
        }
    }
    Ok(())
}
