//! The picture of an image-to-video request: decoded under strict limits, so that no upload can fill the memory.

use std::{io::Cursor, sync::Mutex};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use videosdgx_api::Problem;

/// Most bytes of the encoded picture.
pub const MAX_BYTES: usize = 10 * 1024 * 1024;
/// Most pixels of a side.
pub const MAX_SIDE: u32 = 8192;
/// Most pixels in all.
pub const MAX_PIXELS: u64 = 1 << 24;
/// Most bytes that a decoder may ask for beyond the picture itself.
const MAX_DECODER_BYTES: u64 = 64 * 1024 * 1024;

const FIELD: &str = "image";

/// One picture is decoded at a time, so that many uploads need the memory of one.
static DECODING: Mutex<()> = Mutex::new(());

/// Plain base64 of a picture sent as base64 or as a data URI.
///
/// # Errors
/// A problem of the field `image` when it is no base64, is over [`MAX_BYTES`], or is not a PNG, JPEG or WebP that decodes
/// within the limits.
pub fn checked(image: &str) -> Result<String, Problem> {
    let encoded = strip_data_uri(image)?;
    decode(encoded)?;
    Ok(encoded.to_owned())
}

/// The picture in RGB (blocks for the time of decoding), upright (its EXIF orientation applied), transparency over black.
///
/// # Errors
/// As [`checked`].
pub fn decode(image: &str) -> Result<RgbImage, Problem> {
    let encoded = strip_data_uri(image)?;
    if encoded.len() > MAX_BYTES.div_ceil(3) * 4 {
        return Err(too_large());
    }
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|_| Problem::field(FIELD, "the image is no base64; send base64 or a data URI"))?;
    if bytes.len() > MAX_BYTES {
        return Err(too_large());
    }
    let _turn = DECODING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let format = image::guess_format(&bytes)
        .ok()
        .filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP))
        .ok_or_else(|| Problem::field(FIELD, "the image is a PNG, JPEG or WebP file"))?;
    let broken = |error: image::ImageError| match error {
        image::ImageError::Limits(_) => too_many_pixels(),
        error => Problem::field(FIELD, format!("the image does not decode: {error}")),
    };
    let mut reader = ImageReader::with_format(Cursor::new(&bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || decoder.total_bytes() > MAX_DECODER_BYTES {
        return Err(too_many_pixels());
    }
    let orientation = decoder.orientation().map_err(broken)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    picture.apply_orientation(orientation);
    Ok(over_black(picture))
}

fn over_black(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    let scale = |value: u8, alpha: u8| {
        let product = u16::from(value) * u16::from(alpha);
        u8::try_from((product + 127) / 255).unwrap_or(u8::MAX)
    };
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0;
        image::Rgb([scale(red, alpha), scale(green, alpha), scale(blue, alpha)])
    })
}

fn strip_data_uri(image: &str) -> Result<&str, Problem> {
    let Some(rest) = image.strip_prefix("data:") else { return Ok(image) };
    rest.split_once(";base64,")
        .filter(|(kind, _)| kind.len() < 64 && kind.starts_with("image/"))
        .map(|(_, encoded)| encoded)
        .ok_or_else(|| Problem::field(FIELD, "a data URI is spelled data:image/png;base64,…"))
}

fn too_large() -> Problem {
    Problem::field(FIELD, format!("the image is at most {MAX_BYTES} bytes")).with_limit(MAX_BYTES)
}

fn too_many_pixels() -> Problem {
    Problem::field(
        FIELD,
        format!("the image is at most {MAX_SIDE} pixels a side and {MAX_PIXELS} pixels in all"),
    )
    .with_limit(MAX_PIXELS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(width, height, image::Rgb([9, 8, 7]))
            .write_to(&mut bytes, ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn base64_and_data_uris_decode_to_the_same_picture() {
        let plain = STANDARD.encode(png(5, 4));
        let uri = format!("data:image/png;base64,{plain}");
        assert_eq!(checked(&uri).unwrap(), plain);
        let picture = decode(&uri).unwrap();
        assert_eq!((picture.dimensions(), picture.get_pixel(4, 3).0), ((5, 4), [9, 8, 7]));
    }

    #[test]
    fn what_is_no_picture_is_refused_by_name() {
        let truncated = STANDARD.encode(&png(64, 64)[..60]);
        let gif = STANDARD.encode(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;");
        for image in ["", "%%%", "aGVsbG8=", "data:text/html;base64,aGVsbG8=", "data:,x", &truncated, &gif] {
            assert_eq!(decode(image).unwrap_err().field.as_deref(), Some("image"), "{image:?}");
        }
    }

    #[test]
    fn a_huge_canvas_is_refused_from_its_header() {
        for (width, height) in [(60_000_u32, 60_000_u32), (8193, 1), (8192, 8192)] {
            let mut bytes = png(1, 1);
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
            let crc = crc32(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&crc.to_be_bytes());
            let problem = decode(&STANDARD.encode(bytes)).unwrap_err();
            assert_eq!(problem.limit, Some(MAX_PIXELS.into()), "{width}x{height}: {problem}");
        }
    }

    #[test]
    fn too_many_bytes_are_refused_before_they_are_decoded() {
        let problem = decode(&"A".repeat(MAX_BYTES * 2)).unwrap_err();
        assert_eq!(problem.limit, Some(MAX_BYTES.into()));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
        })
    }
}
