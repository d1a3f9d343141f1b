//! Decoding of PNG, JPEG and WebP files within strict limits, so that no upload can exhaust memory or block a thread for
//! long.

use std::io::Cursor;
use std::sync::Arc;

use image::error::{DecodingError, ImageFormatHint};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::{Picture, jpeg, turns::Turns};

/// Limits of a file and of its decoded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Maximum size of the file in bytes.
    pub bytes: usize,
    /// Maximum width and height in pixels.
    pub side: u32,
    /// Maximum number of pixels.
    pub pixels: u64,
    /// Maximum size in bytes of the decoded picture in the file's colour type, and of what a decoder may allocate in addition.
    pub memory: u64,
}

impl DecodeLimits {
    /// 10 MiB per file, 8192 pixels per side, 2²⁴ pixels, 64 MiB per decoded picture.
    pub const DEFAULT: Self = Self { bytes: 10 << 20, side: 8192, pixels: 1 << 24, memory: 64 << 20 };
}

impl Default for DecodeLimits {
    /// [`DecodeLimits::DEFAULT`]
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The colour behind transparent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// All channels 0.
    Black,
    /// All channels 255.
    White,
}

/// Why a file could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The file has more bytes than allowed.
    #[error("the image must have at most {0} bytes")]
    TooManyBytes(usize),
    /// The picture has more pixels than allowed, or needs more memory.
    #[error("the image must have at most {} pixels per side and {} pixels in all, and decode within {} MiB", .0.side, .0.pixels, .0.memory >> 20)]
    TooManyPixels(DecodeLimits),
    /// The file is not in a supported format.
    #[error("the image must be a PNG, JPEG or WebP file")]
    UnknownFormat,
    /// The file is truncated or damaged.
    #[error("the image cannot be decoded: {0}")]
    Broken(#[source] DamagedImage),
    /// The picture has no pixels.
    #[error("the image has no pixels")]
    Empty,
}

/// What the decoder of a damaged file reported. Equal when the messages are.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct DamagedImage(Arc<ImageError>);

impl PartialEq for DamagedImage {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for DamagedImage {}

/// Pictures are decoded at once as long as they need no more memory than two of the largest: the file's own pixels and their
/// copy in RGB.
static DECODING: Turns = Turns::new(2 * 2 * DecodeLimits::DEFAULT.memory);

/// Decodes the (first) picture of a file to RGB: EXIF orientation applied, transparency composited over `background`,
/// 16-bit channels reduced to their upper byte (Pillow clips 16-bit grey at 255 instead, which gives a white picture).
/// Blocks while it decodes.
///
/// # Errors
/// [`DecodeError`]; a picture beyond the limits is refused after its header is read.
pub fn decode(bytes: &[u8], limits: &DecodeLimits, background: Background) -> Result<Picture, DecodeError> {
    let mut decoder = open(bytes, limits)?;
    let _turn = DECODING.take(2 * decoder.total_bytes());
    let orientation = decoder.orientation().map_err(|error| decode_error(error, limits))?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| decode_error(error, limits))?;
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    Picture::new(width, height, rgb(picture, background)).ok_or_else(|| DecodeError::Empty)
}

/// Width and height of the picture that [`decode`] returns, from the file's header; fast and without allocating the
/// picture.
///
/// # Errors
/// As [`decode`]; damage after the header is not detected, except a truncated JPEG file.
pub fn dimensions(bytes: &[u8], limits: &DecodeLimits) -> Result<[usize; 2], DecodeError> {
    use image::metadata::Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let mut decoder = open(bytes, limits)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let orientation = decoder.orientation().map_err(|error| decode_error(error, limits))?;
    let rotated = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
    Ok(if rotated { [height, width] } else { [width, height] })
}

/// Reads the header and checks it against the limits.
fn open<'a>(bytes: &'a [u8], limits: &DecodeLimits) -> Result<Box<dyn ImageDecoder + 'a>, DecodeError> {
    if bytes.len() > limits.bytes {
        return Err(DecodeError::TooManyBytes(limits.bytes));
    }
    let format = image::guess_format(bytes)
        .ok()
        .filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP))
        .ok_or(DecodeError::UnknownFormat)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = Limits::default();
    allowed.max_image_width = Some(limits.side);
    allowed.max_image_height = Some(limits.side);
    allowed.max_alloc = Some(limits.memory);
    reader.limits(allowed);
    let decoder = reader.into_decoder().map_err(|error| decode_error(error, limits))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels || decoder.total_bytes() > limits.memory {
        return Err(DecodeError::TooManyPixels(*limits));
    }
    if format == ImageFormat::Jpeg && !jpeg::is_complete(bytes) {
        let why = DecodingError::new(ImageFormatHint::Exact(format), "the file is truncated");
        return Err(decode_error(ImageError::Decoding(why), limits));
    }
    Ok(Box::new(decoder))
}

fn decode_error(error: ImageError, limits: &DecodeLimits) -> DecodeError {
    match error {
        ImageError::Limits(_) => DecodeError::TooManyPixels(*limits),
        error => DecodeError::Broken(DamagedImage(Arc::new(error))),
    }
}

/// Converts to three bytes per pixel.
fn rgb(picture: DynamicImage, background: Background) -> Vec<u8> {
    let upper = |values: Vec<u16>| values.into_iter().map(|value| (value >> 8) as u8).collect();
    match picture {
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageRgb16(_) => upper(picture.into_rgb16().into_raw()),
        DynamicImage::ImageLumaA16(_) | DynamicImage::ImageRgba16(_) => {
            over(upper(picture.into_rgba16().into_raw()), background)
        }
        picture if picture.color().has_alpha() => over(picture.into_rgba8().into_raw(), background),
        picture => picture.into_rgb8().into_raw(),
    }
}

/// Composites RGBA over a plain background, rounded as Pillow's `alpha_composite` does.
fn over(pixels: Vec<u8>, background: Background) -> Vec<u8> {
    let behind: u32 = match background {
        Background::Black => 0,
        Background::White => 255,
    };
    let mut composed = Vec::with_capacity(pixels.len() / 4 * 3);
    for pixel in pixels.chunks_exact(4) {
        let alpha = u32::from(pixel[3]);
        composed.extend(
            pixel[..3]
                .iter()
                .map(|&value| ((u32::from(value) * alpha + behind * (255 - alpha) + 127) / 255) as u8),
        );
    }
    composed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(picture: &DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).expect("writes");
        bytes.into_inner()
    }

    fn decoded(bytes: &[u8]) -> Result<Picture, DecodeError> {
        decode(bytes, &DecodeLimits::default(), Background::White)
    }

    #[test]
    fn every_kind_of_pixel_becomes_three_bytes() {
        use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};
        let cases: [(DynamicImage, [u8; 3]); 6] = [
            (ImageBuffer::from_pixel(3, 2, Luma([7u8])).into(), [7, 7, 7]),
            (ImageBuffer::from_pixel(3, 2, LumaA([7u8, 0])).into(), [255; 3]),
            (ImageBuffer::from_pixel(3, 2, Rgb([1u8, 2, 3])).into(), [1, 2, 3]),
            (ImageBuffer::from_pixel(3, 2, Rgba([0u8, 100, 255, 128])).into(), [127, 177, 255]),
            (ImageBuffer::from_pixel(3, 2, Rgb([0x01FFu16, 0x8000, 0xFFFF])).into(), [1, 128, 255]),
            (ImageBuffer::from_pixel(3, 2, Luma([0x12F0u16])).into(), [0x12; 3]),
        ];
        for (picture, expected) in cases {
            let picture = decoded(&png(&picture)).expect("decodes");
            assert_eq!((picture.width(), picture.height()), (3, 2));
            assert_eq!(picture.pixels(), expected.repeat(6));
        }
    }

    #[test]
    fn damaged_and_other_files_are_refused() {
        let whole =
            png(&image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]))
                .into());
        assert!(decoded(&whole).is_ok());
        assert_eq!(dimensions(&whole, &DecodeLimits::DEFAULT), Ok([64, 64]));
        for length in [0, 1, 8, 20, 40, whole.len() / 2, whole.len() - 20] {
            let error = decoded(&whole[..length]).expect_err("truncated");
            assert!(
                matches!(error, DecodeError::Broken(_) | DecodeError::UnknownFormat),
                "{length}: {error}"
            );
        }
        assert_eq!(decoded(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"), Err(DecodeError::UnknownFormat));
        let limits = DecodeLimits { bytes: 10, ..DecodeLimits::default() };
        assert_eq!(decode(&whole, &limits, Background::Black), Err(DecodeError::TooManyBytes(10)));
    }

    #[test]
    fn a_huge_canvas_is_refused_from_its_header() {
        let plain = png(&image::RgbImage::new(1, 1).into());
        for (width, height) in [(60_000_u32, 60_000_u32), (8193, 1), (8192, 8192), (u32::MAX, u32::MAX)] {
            let mut bytes = plain.clone();
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
            let crc = crc32(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&crc.to_be_bytes());
            let error = decoded(&bytes).expect_err("too large");
            assert_eq!(dimensions(&bytes, &DecodeLimits::DEFAULT), Err(error.clone()));
            assert!(matches!(error, DecodeError::TooManyPixels(_) | DecodeError::Broken(_)), "{error}");
            assert!(
                width == u32::MAX || matches!(error, DecodeError::TooManyPixels(_)),
                "{width}x{height}: {error}"
            );
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
        })
    }
}
