//! Encoding pictures into files.

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder as _, ImageError};

use crate::Picture;

/// Format of an encoded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// PNG, lossless.
    Png,
    /// WebP, lossless.
    WebP,
    /// JPEG of this quality, 1 to 100.
    Jpeg(u8),
}

/// The picture could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a picture of {width}x{height}: {source}")]
pub struct EncodeError {
    width: usize,
    height: usize,
    source: ImageError,
}

impl Picture {
    /// The picture as a file.
    ///
    /// ```
    /// use videosdgx_picture::{Background, DecodeLimits, Picture, PictureFormat, decode};
    ///
    /// let red = Picture::new(2, 2, [255, 0, 0].repeat(4)).ok_or("2 × 2 pixels")?;
    /// let file = red.encoded(PictureFormat::WebP)?;
    /// assert_eq!(decode(&file, &DecodeLimits::DEFAULT, Background::Black)?, red);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`EncodeError`] when a side exceeds what the format can store: 16,384 pixels for WebP, 65,535 for JPEG.
    pub fn encoded(&self, format: PictureFormat) -> Result<Vec<u8>, EncodeError> {
        let (width, height) = (self.width() as u32, self.height() as u32);
        let mut file = Vec::new();
        let written = match format {
            PictureFormat::Png => {
                PngEncoder::new(&mut file).write_image(self.pixels(), width, height, ExtendedColorType::Rgb8)
            }
            PictureFormat::WebP => WebPEncoder::new_lossless(&mut file).write_image(
                self.pixels(),
                width,
                height,
                ExtendedColorType::Rgb8,
            ),
            PictureFormat::Jpeg(quality) => JpegEncoder::new_with_quality(&mut file, quality).write_image(
                self.pixels(),
                width,
                height,
                ExtendedColorType::Rgb8,
            ),
        };
        match written {
            Ok(()) => Ok(file),
            Err(source) => Err(EncodeError { width: self.width(), height: self.height(), source }),
        }
    }

    /// Copies `part` to the position `(left, top)`; what would be outside is left out.
    pub fn paste(&mut self, part: &Picture, left: usize, top: usize) {
        let columns = part.width().min(self.width().saturating_sub(left)) * 3;
        let width = self.width();
        for row in 0..part.height().min(self.height().saturating_sub(top)) {
            let from = row * part.width() * 3;
            let to = ((top + row) * width + left) * 3;
            self.pixels_mut()[to..to + columns].copy_from_slice(&part.pixels()[from..from + columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Background, DecodeLimits, decode};

    #[test]
    fn files_decode_to_the_picture() {
        let pixels = (0..48 * 40 * 3).map(|index| (index / 24) as u8).collect();
        let picture = Picture::new(48, 40, pixels).unwrap();
        for (format, tolerance) in
            [(PictureFormat::Png, 0), (PictureFormat::WebP, 0), (PictureFormat::Jpeg(95), 12)]
        {
            let file = picture.encoded(format).unwrap();
            let decoded = decode(&file, &DecodeLimits::DEFAULT, Background::Black).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (48, 40));
            for (got, want) in decoded.pixels().iter().zip(picture.pixels()) {
                assert!(got.abs_diff(*want) <= tolerance, "{format:?}: {got} is not {want}");
            }
        }
        let wide = Picture::new(16_385, 1, vec![0; 16_385 * 3]).unwrap();
        let error = wide.encoded(PictureFormat::WebP).unwrap_err();
        assert!(error.to_string().contains("16385x1"), "{error}");
    }

    #[test]
    fn parts_are_pasted_within_the_picture() {
        let mut picture = Picture::new(3, 2, vec![0; 18]).unwrap();
        let part = Picture::new(2, 2, vec![9; 12]).unwrap();
        picture.paste(&part, 2, 1);
        let mut want = vec![0; 15];
        want.extend([9; 3]);
        assert_eq!(picture.pixels(), want);
        picture.paste(&part, 5, 5);
        assert_eq!(picture.pixels(), want);
    }
}
