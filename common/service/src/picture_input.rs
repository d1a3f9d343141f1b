//! A picture that a request gives: decoded under strict limits, so that no upload can fill the memory.

use videosdgx_api::Problem;
use videosdgx_picture::{Background, DecodeError, DecodeLimits, Picture};

use crate::attachment::Attachment;

/// Maximum size of the encoded picture in bytes.
pub const MAX_BYTES: usize = LIMITS.bytes;
/// Maximum width and height in pixels.
pub const MAX_SIDE: u32 = LIMITS.side;
/// Maximum number of pixels.
pub const MAX_PIXELS: u64 = LIMITS.pixels;

const LIMITS: DecodeLimits = DecodeLimits::DEFAULT;

/// Field of the first frame.
pub const FIRST_FRAME: &str = "image";
/// Field of the last frame.
pub const LAST_FRAME: &str = "last_image";

/// Plain base64 of a picture that `field` has as base64 or as a data URI.
///
/// # Errors
/// A problem of `field` when it is not base64, exceeds [`MAX_BYTES`], or is not a PNG, JPEG or WebP that decodes within the
/// limits.
pub fn checked(field: &'static str, image: &str) -> Result<String, Problem> {
    let (encoded, bytes) = read(field, image)?;
    decode_bytes(field, &bytes)?;
    Ok(encoded.into_owned())
}

/// The picture in RGB (blocks for the time of decoding), upright (its EXIF orientation applied), transparency over black.
///
/// # Errors
/// As [`checked`].
pub fn decode(field: &'static str, image: &str) -> Result<Picture, Problem> {
    let (_, bytes) = read(field, image)?;
    decode_bytes(field, &bytes)
}

fn read<'a>(field: &'static str, image: &'a str) -> Result<(std::borrow::Cow<'a, str>, Vec<u8>), Problem> {
    let picture = Attachment {
        field,
        what: "image",
        media_types: &["image/"],
        example: "data:image/png;base64,…",
        max_bytes: MAX_BYTES,
    };
    picture.read(image, || problem(field, &DecodeError::TooManyBytes(MAX_BYTES)))
}

fn decode_bytes(field: &str, bytes: &[u8]) -> Result<Picture, Problem> {
    videosdgx_picture::decode(bytes, &LIMITS, Background::Black).map_err(|error| problem(field, &error))
}

fn problem(field: &str, error: &DecodeError) -> Problem {
    let problem = Problem::field(field, error.to_string());
    match error {
        DecodeError::TooManyBytes(limit) => problem.with_limit(*limit),
        DecodeError::TooManyPixels(limits) => problem.with_limit(limits.pixels),
        DecodeError::UnknownFormat | DecodeError::Broken(_) | DecodeError::Empty => problem,
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::{FIRST_FRAME, LAST_FRAME, MAX_BYTES, MAX_PIXELS, Picture, Problem};

    fn checked(image: &str) -> Result<String, Problem> {
        super::checked(FIRST_FRAME, image)
    }

    fn decode(image: &str) -> Result<Picture, Problem> {
        super::decode(FIRST_FRAME, image)
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_pixel(width, height, image::Rgb([9, 8, 7]))
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn base64_and_data_uris_decode_to_the_same_picture() {
        let plain = STANDARD.encode(png(5, 4));
        let uri = format!("data:image/png;base64,{plain}");
        assert_eq!(checked(&uri).unwrap(), plain);
        let picture = decode(&uri).unwrap();
        assert_eq!((picture.width(), picture.height()), (5, 4));
        assert_eq!(picture.pixels(), [9, 8, 7].repeat(20));
        let (head, tail) = plain.split_at(20);
        for broken in [format!("{head}\n{tail}\n"), format!("data:image/png;base64,\r\n{head}\r\n{tail}")] {
            assert_eq!(checked(&broken).unwrap(), plain, "line breaks are no part of base64");
            assert_eq!(decode(&broken).unwrap(), picture);
        }
    }

    #[test]
    fn what_is_no_picture_is_refused_by_name() {
        let truncated = STANDARD.encode(&png(64, 64)[..60]);
        let gif = STANDARD.encode(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;");
        for image in ["", "%%%", "aGVsbG8=", "data:text/html;base64,aGVsbG8=", "data:,x", &truncated, &gif] {
            for field in [FIRST_FRAME, LAST_FRAME] {
                let problem = super::decode(field, image).unwrap_err();
                assert_eq!(problem.field.as_deref(), Some(field), "{image:?}");
            }
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
