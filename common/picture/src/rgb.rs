//! An RGB picture, cropping and scaling.

use crate::resample::{Arithmetic, Filter, resampled};

/// Pictures with a long side of more than this times the short side are cropped before they are scaled up, to bound memory.
pub const LONGEST_RATIO: usize = 16;

/// An RGB picture: rows from top to bottom, three bytes per pixel.
///
/// ```
/// use videosdgx_picture::{Filter, Picture};
///
/// let red = Picture::new(4, 2, [255, 0, 0].repeat(8)).expect("4 × 2 pixels");
/// let resized = red.resized(8, 8, Filter::Lanczos);
/// assert_eq!((resized.width(), resized.height()), (8, 8));
/// assert_eq!(&resized.pixels()[..3], [255, 0, 0]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// From `width · height · 3` bytes; `None` for a different number of bytes or when a side is zero.
    #[must_use]
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        let bytes = width.checked_mul(height)?.checked_mul(3)?;
        (bytes == pixels.len() && bytes > 0).then_some(Self { width, height, pixels })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, rows from top to bottom.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub(crate) fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// As [`Picture::pixels`], without a copy.
    #[must_use]
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Resamples to `width × height` byte for byte as Pillow's `Image.resize`.
    #[must_use]
    pub fn resized(&self, width: usize, height: usize, filter: Filter) -> Self {
        self.resized_by(width, height, filter, Arithmetic::Pillow)
    }

    /// Resamples to `width × height`: first horizontally, then vertically, each pass rounded to bytes.
    #[must_use]
    pub fn resized_by(&self, width: usize, height: usize, filter: Filter, arithmetic: Arithmetic) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let pixels = resampled(&self.pixels, [self.width, self.height], [width, height], filter, arithmetic);
        Self { width, height, pixels }
    }

    /// The central part of `width × height`; what is outside the picture is black.
    #[must_use]
    pub fn center_cropped(&self, width: usize, height: usize) -> Self {
        let mut pixels = vec![0; width * height * 3];
        let start = |ours: usize, theirs: usize| ours.saturating_sub(theirs) / 2;
        let (left, top) = (start(self.width, width), start(self.height, height));
        let (to_left, to_top) = (start(width, self.width), start(height, self.height));
        let (columns, rows) = (width.min(self.width), height.min(self.height));
        for row in 0..rows {
            let from = ((top + row) * self.width + left) * 3;
            let to = ((to_top + row) * width + to_left) * 3;
            pixels[to..to + columns * 3].copy_from_slice(&self.pixels[from..from + columns * 3]);
        }
        Self { width, height, pixels }
    }

    /// Fills `width × height` without distortion: resampled to cover it, then cropped.
    #[must_use]
    pub fn covering(&self, width: usize, height: usize) -> Self {
        let limited = self.limited_ratio(LONGEST_RATIO);
        if limited.width != self.width || limited.height != self.height {
            return limited.covering(width, height);
        }
        let scale = (width as f64 / self.width as f64).max(height as f64 / self.height as f64);
        let side = |ours: usize, wanted: usize| ((ours as f64 * scale).round() as usize).max(wanted);
        self.resized(side(self.width, width), side(self.height, height), Filter::Lanczos)
            .center_cropped(width, height)
    }

    /// Crops the long side to at most `limit` times the short side.
    #[must_use]
    pub fn limited_ratio(&self, limit: usize) -> Self {
        let longest = self.width.min(self.height).saturating_mul(limit);
        if self.width.max(self.height) <= longest {
            return self.clone();
        }
        self.center_cropped(self.width.min(longest), self.height.min(longest))
    }
}
