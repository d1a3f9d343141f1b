//! From a file's bytes to patches.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use videosdgx_picture::{Background, DecodeLimits, Filter, Picture, decode, dimensions};

use super::resize::{MOST_RATIO, smart_size};
use super::{ImageConfig, ImageError};
use videosdgx_decoder_api::ImageInput;

/// Makes patches of pictures as one checkpoint wants them.
#[derive(Debug, Clone, PartialEq)]
pub struct PicturePreprocessor {
    config: ImageConfig,
    limits: DecodeLimits,
    most_tokens: usize,
}

/// A picture, cut into patches, that has no place in a prompt yet.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessedImage {
    /// Patches in time (1), height and width.
    pub grid: [usize; 3],
    /// `[h · w, 3 · temporal patch · patch · patch]`, normalised, in merge blocks.
    pub patches: Vec<f32>,
    /// Placeholder tokens: `h · w / merge²`.
    pub tokens: usize,
    /// SHA-256 of the resized picture and of how it is normalised and cut.
    pub digest: [u8; 32],
}

impl ProcessedImage {
    /// The picture whose first placeholder token is at `position` of the sequence.
    #[must_use]
    pub fn at(self, position: usize) -> Arc<ImageInput> {
        let Self { grid, patches, tokens, digest } = self;
        Arc::new(ImageInput { position, tokens, grid, patches, digest })
    }
}

impl PicturePreprocessor {
    /// With [`DecodeLimits::default`].
    #[must_use]
    pub fn new(config: ImageConfig) -> Self {
        Self { config, limits: DecodeLimits::default(), most_tokens: usize::MAX }
    }

    /// Of the checkpoint in `folder`.
    ///
    /// # Errors
    /// As [`ImageConfig::open`].
    pub fn open(folder: &Path) -> Result<Self, ImageError> {
        Ok(Self::new(ImageConfig::open(folder)?))
    }

    /// Makes pictures smaller so that none has more than `tokens` tokens (at least one). Very narrow ones lose their ratio
    /// rather than exceed it.
    #[must_use]
    pub fn with_most_tokens(mut self, tokens: usize) -> Self {
        self.most_tokens = tokens.max(1);
        self
    }

    /// With other limits for files.
    #[must_use]
    pub fn with_limits(mut self, limits: DecodeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How pictures are taken.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// How many placeholder tokens [`PicturePreprocessor::process`] will give, by the file's header: patches take 24 KiB a token (of
    /// Qwen3-VL), so a prompt that is too long is better refused before they are made.
    ///
    /// # Errors
    /// [`ImageError::Decode`], [`ImageError::TooNarrow`]; damage behind the header is not seen.
    pub fn count(&self, bytes: &[u8]) -> Result<usize, ImageError> {
        let [width, height] = dimensions(bytes, &self.limits)?;
        let [rows, columns] = self.size(width, height)?;
        Ok(rows / self.config.factor() * (columns / self.config.factor()))
    }

    /// Patches of a PNG, JPEG or WebP file, transparency over white (as transformers' processor does it). Takes its time:
    /// not for a thread that serves connections.
    ///
    /// # Errors
    /// [`ImageError::Decode`], [`ImageError::TooNarrow`].
    pub fn process(&self, bytes: &[u8]) -> Result<ProcessedImage, ImageError> {
        self.process_picture(&decode(bytes, &self.limits, Background::White)?)
    }

    /// Patches of a decoded picture.
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

    /// Height and width at which the model sees a picture of this size.
    fn size(&self, width: usize, height: usize) -> Result<[usize; 2], ImageError> {
        let (factor, most) = (self.config.factor(), self.most_tokens);
        let fitted = |least: usize, most: usize| {
            smart_size([height, width], factor, least, most).ok_or(ImageError::TooNarrow {
                width,
                height,
                most: MOST_RATIO,
            })
        };
        let [rows, columns] = fitted(self.config.least_pixels, self.config.most_pixels)?;
        if rows / factor * (columns / factor) <= most {
            return Ok([rows, columns]);
        }
        let [rows, columns] = fitted(1, most.saturating_mul(factor * factor))?;
        let short = rows.min(columns).min(most * factor);
        let long = rows.max(columns).min(most / (short / factor) * factor);
        Ok(if rows < columns { [short, long] } else { [long, short] })
    }

    /// `picture`: of whole merge blocks. Order: block row, block column, row and column in the block; in a patch channel,
    /// time, row, column.
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

    /// What each byte of each channel becomes: `(byte - 255 · mean) / (255 · std)` in f32.
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
