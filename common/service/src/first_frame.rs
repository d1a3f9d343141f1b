//! The picture of an image-to-video request: decoded under strict limits, so that no upload can fill the memory.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use videosdgx_api::Problem;
use videosdgx_picture::{Background, DecodeError, DecodeLimits, Picture};

/// Maximum size of the encoded picture in bytes.
pub const MAX_BYTES: usize = LIMITS.bytes;
/// Maximum width and height in pixels.
pub const MAX_SIDE: u32 = LIMITS.side;
/// Maximum number of pixels.
pub const MAX_PIXELS: u64 = LIMITS.pixels;

const LIMITS: DecodeLimits = DecodeLimits::DEFAULT;

const FIELD: &str = "image";

/// Plain base64 of a picture sent as base64 or as a data URI.
///
/// # Errors
/// A problem of the field `image` when it is not base64, exceeds [`MAX_BYTES`], or is not a PNG, JPEG or WebP that
/// decodes within the limits.
pub fn checked(image: &str) -> Result<String, Problem> {
    let encoded = plain_base64(image)?;
    decode_base64(&encoded)?;
    Ok(encoded.into_owned())
}

/// The picture in RGB (blocks for the time of decoding), upright (its EXIF orientation applied), transparency over black.
///
/// # Errors
/// As [`checked`].
pub fn decode(image: &str) -> Result<Picture, Problem> {
    decode_base64(&plain_base64(image)?)
}

fn decode_base64(encoded: &str) -> Result<Picture, Problem> {
    if encoded.len() > MAX_BYTES.div_ceil(3) * 4 {
        return Err(problem(&DecodeError::TooManyBytes(MAX_BYTES)));
    }
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|_| Problem::field(FIELD, "the image is no base64; send base64 or a data URI"))?;
    videosdgx_picture::decode(&bytes, &LIMITS, Background::Black).map_err(|error| problem(&error))
}

/// Without `data:image/…;base64,` and the line breaks that many encoders write.
fn plain_base64(image: &str) -> Result<Cow<'_, str>, Problem> {
    let encoded = match image.strip_prefix("data:") {
        None => image,
        Some(rest) => rest
            .split_once(";base64,")
            .filter(|(kind, _)| kind.len() < 64 && kind.starts_with("image/"))
            .map(|(_, encoded)| encoded)
            .ok_or_else(|| Problem::field(FIELD, "a data URI is spelled data:image/png;base64,…"))?,
    };
    let broken = encoded.contains(['\r', '\n']);
    Ok(if broken { encoded.replace(['\r', '\n'], "").into() } else { encoded.into() })
}

fn problem(error: &DecodeError) -> Problem {
    let problem = Problem::field(FIELD, error.to_string());
    match error {
        DecodeError::TooManyBytes(limit) => problem.with_limit(*limit),
        DecodeError::TooManyPixels(limits) => problem.with_limit(limits.pixels),
        DecodeError::UnknownFormat | DecodeError::Broken(_) | DecodeError::Empty => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
