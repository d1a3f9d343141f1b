//! Writes a test video: `make_video FILE (h264|av1) WIDTH HEIGHT FRAMES`. Left half pure red, right half a gradient with
//! a moving square.

use videosdgx_mp4::{VideoFormat, VideoWriter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, codec, width, height, frames] = arguments.as_slice() else {
        return Err("usage: make_video FILE (h264|av1) WIDTH HEIGHT FRAMES".into());
    };
    let (width, height): (usize, usize) = (width.parse()?, height.parse()?);
    let format = match codec.as_str() {
        "av1" => VideoFormat::av1(width as u32, height as u32, 16),
        _ => VideoFormat::h264(width as u32, height as u32, 16),
    };
    let start = std::time::Instant::now();
    let mut writer = VideoWriter::create(path, format)?;
    for index in 0..frames.parse()? {
        let mut rgb = Vec::with_capacity(format.frame_bytes());
        for i in 0..width * height {
            let (x, y) = (i % width, i / width);
            let left = width / 2 + (3 * index) % (width / 4);
            rgb.extend(if x < width / 2 {
                [255, 0, 0]
            } else if (left..left + width / 8).contains(&x) && (height / 4..height / 2).contains(&y) {
                [0, 200, 255]
            } else {
                [(x * 255 / width) as u8, (y * 255 / height) as u8, 90]
            });
        }
        writer.push_frame(&rgb)?;
    }
    let frames = writer.frames();
    writer.finish()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{frames} frames in {seconds:.2} s, {} bytes", std::fs::metadata(path)?.len());
    Ok(())
}
