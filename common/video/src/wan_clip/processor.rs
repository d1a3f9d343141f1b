//! `image_processor/preprocessor_config.json`: preprocessing of a picture for CLIP.

use std::path::Path;

use serde::Deserialize;
use tch::{Kind, Tensor};
use videosdgx_picture::{Filter, LONGEST_RATIO, Picture};
use videosdgx_tensor::{CheckpointError, read_json};

use crate::picture_tensor;

/// Scales the short side, crops the centre, normalises each colour channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipPreprocessor {
    short_side: usize,
    crop: usize,
    factor: f64,
    mean: [f32; 3],
    std: [f32; 3],
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    size: Option<Size>,
    #[serde(default)]
    crop_size: Option<Size>,
    #[serde(default)]
    image_mean: Option<[f32; 3]>,
    #[serde(default)]
    image_std: Option<[f32; 3]>,
    #[serde(default)]
    rescale_factor: Option<f64>,
    #[serde(default)]
    resample: Option<u32>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Size {
    Plain(usize),
    Short { shortest_edge: usize },
    Both { height: usize, width: usize },
}

impl Default for ClipPreprocessor {
    /// The defaults of `CLIPImageProcessor`.
    fn default() -> Self {
        Self {
            short_side: 224,
            crop: 224,
            factor: 1.0 / 255.0,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }
}

impl ClipPreprocessor {
    /// Opens the `image_processor/` folder of a checkpoint.
    ///
    /// # Errors
    /// `Missing` or `Invalid` naming the file.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join("preprocessor_config.json");
        let config: Config = read_json(&path)?;
        Self::from_config(&config).map_err(|reason| CheckpointError::invalid(&path, reason))
    }

    fn from_config(config: &Config) -> Result<Self, String> {
        let default = Self::default();
        let side = |size: Option<Size>, default: usize| match size {
            None => Ok(default),
            Some(Size::Plain(side) | Size::Short { shortest_edge: side }) => Ok(side),
            Some(Size::Both { height, width }) if height == width => Ok(height),
            Some(Size::Both { height, width }) => Err(format!("{width}×{height} is not square")),
        };
        let processor = Self {
            short_side: side(config.size, default.short_side)?,
            crop: side(config.crop_size, default.crop)?,
            factor: config.rescale_factor.unwrap_or(default.factor),
            mean: config.image_mean.unwrap_or(default.mean),
            std: config.image_std.unwrap_or(default.std),
        };
        // 3 is Pillow's number for bicubic.
        match config.resample {
            None | Some(3) => {}
            Some(other) => return Err(format!("resample {other} is not supported; use 3 (bicubic)")),
        }
        if !(1..=4096).contains(&processor.short_side) || !(1..=4096).contains(&processor.crop) {
            return Err("size and crop_size must be within 1 to 4096".to_owned());
        }
        if processor.std.contains(&0.0) {
            return Err("image_std must not be 0".to_owned());
        }
        Ok(processor)
    }

    /// Side of the result, in pixels.
    pub fn side(&self) -> i64 {
        self.crop as i64
    }

    /// Preprocesses a picture of any size → `[1, 3, side, side]` f32.
    pub fn pixels(&self, picture: &Picture) -> Tensor {
        let picture = picture.limited_ratio(LONGEST_RATIO);
        let (width, height) = (picture.width(), picture.height());
        let long = |long: usize, short: usize| self.short_side * long / short;
        let (width, height) = match width <= height {
            true => (self.short_side, long(height, width)),
            false => (long(width, height), self.short_side),
        };
        let cropped = picture.resized(width, height, Filter::Bicubic).center_cropped(self.crop, self.crop);
        let row = |values: &[f32; 3]| Tensor::from_slice(values).view([3, 1, 1]);
        let scaled = (picture_tensor(&cropped).to_kind(Kind::Double) * self.factor).to_kind(Kind::Float);
        ((scaled - row(&self.mean)) / row(&self.std)).unsqueeze(0)
    }
}
