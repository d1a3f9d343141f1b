//! Written files play from their first bytes and have the right colours, sizes and durations.

use std::path::Path;

use videosdgx_mp4::{KEY_FRAME_SECONDS, Mp4Error, VideoFormat, VideoReader, VideoWriter};

const WIDTH: usize = 96;
const HEIGHT: usize = 64;

/// A square of `color` that moves to the right by two pixels a frame, on a gray background.
fn frame(index: usize, color: [u8; 3]) -> Vec<u8> {
    let left = 8 + (2 * index) % 64;
    let inside = |x: usize, y: usize| (left..left + 16).contains(&x) && (24..40).contains(&y);
    (0..HEIGHT * WIDTH).flat_map(|i| if inside(i % WIDTH, i / WIDTH) { color } else { [128; 3] }).collect()
}

fn write(path: &Path, format: VideoFormat, frames: usize, color: [u8; 3]) {
    let mut writer = VideoWriter::create(path, format).expect("the video can be written");
    for index in 0..frames {
        writer.push_frame(&frame(index, color)).expect("the video can be written");
    }
    assert_eq!(writer.frames(), frames as u64);
    writer.finish().expect("the video can be written");
}

fn small(fps: u32) -> VideoFormat {
    VideoFormat::h264(WIDTH as u32, HEIGHT as u32, fps)
}

/// The boxes of a file or of a box's content: kind, offset of the box, content.
fn boxes(bytes: &[u8]) -> Vec<(String, usize, &[u8])> {
    let (mut at, mut found) = (0, Vec::new());
    while let Some(head) = bytes.get(at..at + 8) {
        let mut size = u32::from_be_bytes(head[..4].try_into().expect("a well-formed box")) as usize;
        let mut header = 8;
        if size == 1 {
            size = u64::from_be_bytes(bytes[at + 8..at + 16].try_into().expect("a well-formed box")) as usize;
            header = 16;
        }
        found.push((String::from_utf8_lossy(&head[4..]).into_owned(), at, &bytes[at + header..at + size]));
        at += size;
    }
    assert_eq!(at, bytes.len(), "boxes do not fill their container");
    found
}

/// The content of the box at `path`, where `name+n` skips n bytes of fields before the inner boxes.
fn inside<'a>(mut bytes: &'a [u8], path: &str) -> &'a [u8] {
    for step in path.split('/') {
        let (name, skip) = step
            .split_once('+')
            .map_or((step, 0), |(name, skip)| (name, skip.parse().expect("a well-formed box")));
        let found = boxes(bytes).into_iter().find(|(kind, ..)| kind == name);
        bytes = &found.unwrap_or_else(|| panic!("no {name} in {path}")).2[skip..];
    }
    bytes
}

const STBL: &str = "moov/trak/mdia/minf/stbl";

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_be_bytes(word.try_into().expect("a well-formed box")))
        .collect()
}

#[test]
fn frames_are_read_back_in_order_with_their_colors() {
    let folder = tempfile::tempdir().unwrap();
    for color in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [128, 0, 128], [255, 255, 255]] {
        let path = folder.path().join("video.mp4");
        write(&path, small(16), 17, color);
        let mut reader = VideoReader::open(&path).unwrap();
        assert_eq!(reader.size(), (WIDTH as u32, HEIGHT as u32));
        assert_eq!(reader.frames(), 17);
        assert!((reader.seconds() - 17.0 / 16.0).abs() < 1e-9);
        let mut index = 0;
        while let Some(rgb) = reader.next_frame().unwrap() {
            let center = |x: usize| (32 * WIDTH + x) * 3;
            let at = center(8 + 2 * index + 8);
            for (got, want) in rgb[at..at + 3].iter().zip(color) {
                assert!(got.abs_diff(want) <= 6, "frame {index}: {:?} is not {color:?}", &rgb[at..at + 3]);
            }
            let background = center(WIDTH - 4);
            assert!(rgb[background..background + 3].iter().all(|value| value.abs_diff(128) <= 3));
            index += 1;
        }
        assert_eq!(index, 17);
    }
}

#[test]
fn the_index_precedes_the_media_and_names_its_colors() {
    let folder = tempfile::tempdir().unwrap();
    let formats = [small(24), VideoFormat { codec: videosdgx_mp4::VideoCodec::Av1, ..small(24) }];
    for (format, entry, config) in [(formats[0], "avc1", "avcC"), (formats[1], "av01", "av1C")] {
        let path = folder.path().join("video.mp4");
        write(&path, format, 30, [255, 0, 0]);
        let file = std::fs::read(&path).unwrap();
        let kinds: Vec<_> = boxes(&file).into_iter().map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, ["ftyp", "moov", "mdat"]);

        let entries = format!("{STBL}/stsd+8/{entry}+78");
        assert_eq!(inside(&file, &format!("{entries}/colr")), b"nclx\0\x01\0\x01\0\x01\0");
        assert!(!inside(&file, &format!("{entries}/{config}")).is_empty());

        // All samples are in `mdat`, without gaps, and end with the file.
        let sizes = &words(inside(&file, &format!("{STBL}/stsz")))[3..];
        let first = words(inside(&file, &format!("{STBL}/stco")))[2] as usize;
        let (_, mdat, media) = boxes(&file).pop().unwrap();
        assert_eq!(sizes.len(), 30);
        assert_eq!(first, mdat + 16);
        assert_eq!(sizes.iter().map(|size| *size as usize).sum::<usize>(), media.len());
        // No reordered frames, no edit list.
        assert!(boxes(inside(&file, STBL)).iter().all(|(kind, ..)| kind != "ctts"));
        assert!(boxes(inside(&file, "moov/trak")).iter().all(|(kind, ..)| kind != "edts"));
    }
}

#[test]
fn key_frames_are_at_most_two_seconds_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (fps, frames) = (10, 50);
    for codec in [small(fps).codec, videosdgx_mp4::VideoCodec::Av1] {
        let path = folder.path().join("video.mp4");
        write(&path, VideoFormat { codec, ..small(fps) }, frames, [0, 0, 255]);
        let file = std::fs::read(&path).unwrap();
        let mut keys = words(inside(&file, &format!("{STBL}/stss")))[2..].to_vec();
        assert_eq!(keys[0], 1);
        keys.push(frames as u32 + 1);
        assert!(
            keys.windows(2).all(|pair| pair[1] - pair[0] <= fps * KEY_FRAME_SECONDS),
            "{codec:?}: {keys:?}"
        );
    }
}

#[test]
fn the_bitstream_names_its_colors() {
    // The sequence parameter set of H.264 in `avcC`: the VUI's video_signal_type must say 709, limited range.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    write(&path, small(16), 3, [255, 0, 0]);
    let file = std::fs::read(&path).unwrap();
    let record = inside(&file, &format!("{STBL}/stsd+8/avc1+78/avcC"));
    let length = u16::from_be_bytes([record[6], record[7]]) as usize;
    let bits: String = record[8..8 + length].iter().map(|byte| format!("{byte:08b}")).collect();
    // video_signal_type_present, format 5 (unspecified) or 0-4, limited, colour description present, 1, 1, 1.
    let described = format!("01{}", "00000001".repeat(3));
    assert!(bits.contains(&described), "{bits}");
}

#[test]
fn unsupported_formats_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    for (width, height, fps, word) in [
        (63, 64, 16, "even"),
        (64, 63, 16, "even"),
        (8, 64, 16, "at least 16"),
        (4096, 64, 16, "at most"),
        (64, 64, 0, "frames"),
    ] {
        let error = VideoWriter::create(&path, VideoFormat::h264(width, height, fps)).err().unwrap();
        assert!(matches!(error, Mp4Error::Format { .. }) && error.to_string().contains(word), "{error}");
        assert!(!path.exists());
    }
    let mut writer = VideoWriter::create(&path, small(16)).unwrap();
    let error = writer.push_frame(&[0; 10]).unwrap_err();
    assert!(matches!(error, Mp4Error::FrameSize { got: 10, want } if want == WIDTH * HEIGHT * 3));
    assert!(matches!(writer.finish(), Err(Mp4Error::Empty)));
}

#[test]
fn broken_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    write(&path, small(16), 4, [255, 0, 0]);
    let whole = std::fs::read(&path).unwrap();
    // Every prefix, and every byte of the index flipped: never a panic, and never more frames than there were.
    let index = whole.len() - boxes(&whole).pop().unwrap().2.len();
    let prefixes = (0..whole.len()).step_by(61).map(|end| whole[..end].to_vec());
    let flipped = (0..index).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        bytes
    });
    for bytes in prefixes.chain(flipped) {
        std::fs::write(&path, bytes).unwrap();
        if let Ok(mut reader) = VideoReader::open(&path) {
            let frames = std::iter::from_fn(|| reader.next_frame().ok().flatten()).take(10).count();
            assert!(frames <= 4);
        }
    }
}
