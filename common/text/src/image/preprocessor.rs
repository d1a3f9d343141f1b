//! From the bytes of an image file to patches.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use videosdgx_picture::{Background, DecodeLimits, Filter, Picture, decode, dimensions};

use super::resize::{MAX_RATIO, smart_size};
use super::{ImageConfig, ImageError};
use videosdgx_decoder_api::ImageInput;

/// Converts images to patches with the parameters of one checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct PicturePreprocessor {
    config: ImageConfig,
    limits: DecodeLimits,
    max_tokens: usize,
}

/// An image in patches, without a position in a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessedImage {
    /// Number of patches in time (1), height and width.
    pub grid: [usize; 3],
    /// `[h · w, 3 · temporal patch · patch · patch]`, normalised, in order of merge blocks.
    pub patches: Vec<f32>,
    /// Number of placeholder tokens: `h · w / merge²`.
    pub tokens: usize,
    /// SHA-256 of the resized image and of the preprocessing parameters.
    pub digest: [u8; 32],
}

impl ProcessedImage {
    /// The model input with the first placeholder token at `position` of the sequence.
    #[must_use]
    pub fn at(self, position: usize) -> Arc<ImageInput> {
        let Self { grid, patches, tokens, digest } = self;
        Arc::new(ImageInput { position, tokens, grid, patches, digest })
    }
}

impl PicturePreprocessor {
    /// A preprocessor with [`DecodeLimits::default`].
    #[must_use]
    pub fn new(config: ImageConfig) -> Self {
        Self { config, limits: DecodeLimits::default(), max_tokens: usize::MAX }
    }

    /// The preprocessor of the checkpoint in `folder`.
    ///
    /// # Errors
    /// As [`ImageConfig::open`].
    pub fn open(folder: &Path) -> Result<Self, ImageError> {
        Ok(Self::new(ImageConfig::open(folder)?))
    }

    /// Reduces images to at most `tokens` placeholder tokens (at least one). Very narrow images then lose their aspect ratio.
    #[must_use]
    pub fn with_max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens.max(1);
        self
    }

    /// Sets the limits for image files.
    #[must_use]
    pub fn with_limits(mut self, limits: DecodeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The parameters.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Number of placeholder tokens that [`PicturePreprocessor::process`] will produce, computed from the file's header. Patches take
    /// 24 KiB per token (Qwen3-VL), so prompts that are too long should be refused before they are computed.
    ///
    /// # Errors
    /// [`ImageError::Decode`], [`ImageError::TooNarrow`]; damage after the header is not detected.
    pub fn count(&self, bytes: &[u8]) -> Result<usize, ImageError> {
        let [width, height] = dimensions(bytes, &self.limits)?;
        let [rows, columns] = self.size(width, height)?;
        Ok(rows / self.config.factor() * (columns / self.config.factor()))
    }

    /// Patches of a PNG, JPEG or WebP file, with transparency over white as in transformers. Slow: do not call it on an async
    /// runtime's thread.
    ///
    /// # Errors
    /// [`ImageError::Decode`], [`ImageError::TooNarrow`].
    pub fn process(&self, bytes: &[u8]) -> Result<ProcessedImage, ImageError> {
        self.process_picture(&decode(bytes, &self.limits, Background::White)?)
    }

    /// Patches of a decoded image.
    ///
    /// # Errors
    /// [`ImageError::TooNarrow`].
    pub fn process_picture(&self, picture: &Picture) -> Result<ProcessedImage, ImageError> {
        let ImageConfig { patch, merge, arithmetic, .. } = self.config;
        let (width, height) = (picture.width(), picture.height());
        let [rows, columns] = self.size(width, height)?;
        let picture = picture.resized_by(columns, rows, Filter::Bicubic, arithmetic);
        let grid = [1, rows / patch, columns / patch];
        Ok(ProcessedImage {
            grid,
            tokens: grid[1] * grid[2] / (merge * merge),
            digest: self.digest(&picture),
            patches: self.patches(&picture),
        })
    }

    /// Height and width to which an image of this size is resized.
    fn size(&self, width: usize, height: usize) -> Result<[usize; 2], ImageError> {
        let (factor, most) = (self.config.factor(), self.max_tokens);
        let fitted = |least: usize, most: usize| {
            smart_size([height, width], factor, least, most).ok_or(ImageError::TooNarrow {
                width,
                height,
                most: MAX_RATIO,
            })
        };
        let [rows, columns] = fitted(self.config.min_pixels, self.config.max_pixels)?;
        if rows / factor * (columns / factor) <= most {
            return Ok([rows, columns]);
        }
        let [rows, columns] = fitted(1, most.saturating_mul(factor * factor))?;
        let short = rows.min(columns).min(most * factor);
        let long = rows.max(columns).min(most / (short / factor) * factor);
        Ok(if rows < columns { [short, long] } else { [long, short] })
    }

    /// Splits `picture`, whose sides are multiples of the merge block. Order: block row, block column, row and column in the block;
    /// within a patch: channel, time, row, column.
    fn patches(&self, picture: &Picture) -> Vec<f32> {
        let ImageConfig { patch, temporal_patch, merge, .. } = self.config;
        let tables = self.tables();
        let (width, pixels) = (picture.width(), picture.pixels());
        let blocks = [picture.height() / (patch * merge), width / (patch * merge)];
        let mut patches = Vec::with_capacity(pixels.len() * temporal_patch);
        for block_row in 0..blocks[0] {
            for block_column in 0..blocks[1] {
                for cell in 0..merge * merge {
                    let top = (block_row * merge + cell / merge) * patch;
                    let left = (block_column * merge + cell % merge) * patch;
                    for (channel, table) in tables.iter().enumerate() {
                        let first = patches.len();
                        for row in top..top + patch {
                            let from = (row * width + left) * 3;
                            let row = &pixels[from..from + patch * 3];
                            patches.extend(
                                row[channel..].iter().step_by(3).map(|&value| table[usize::from(value)]),
                            );
                        }
                        let frame = first..patches.len();
                        for _ in 1..temporal_patch {
                            patches.extend_from_within(frame.clone());
                        }
                    }
                }
            }
        }
        patches
    }

    /// Normalised value of each byte per channel: `(byte - 255 · mean) / (255 · std)` in f32.
    fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            let (mean, std) = (self.config.mean[channel] * 255.0, self.config.std[channel] * 255.0);
            std::array::from_fn(|byte| (byte as f32 - mean) / std)
        })
    }

    fn digest(&self, picture: &Picture) -> [u8; 32] {
        let ImageConfig { patch, temporal_patch, merge, mean, std, .. } = &self.config;
        let mut hasher = Sha256::new();
        for count in [picture.width(), picture.height(), *patch, *temporal_patch, *merge] {
            hasher.update((count as u64).to_le_bytes());
        }
        for number in mean.iter().chain(std) {
            hasher.update(number.to_le_bytes());
        }
        hasher.update(picture.pixels());
        hasher.finalize().into()
    }
}
