//! Image preprocessing parameters of a checkpoint: `preprocessor_config.json`.

use std::error::Error;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use videosdgx_picture::Arithmetic;

use super::ImageError;

const FILE: &str = "preprocessor_config.json";
/// Maximum size of the file.
const MAX_BYTES: u64 = 1 << 20;

/// Parameters of `Qwen2VLImageProcessor`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// Side of a patch, pixels.
    pub patch: usize,
    /// Number of identical frames into which an image is repeated.
    pub temporal_patch: usize,
    /// Side of the square of patches that becomes one token, patches.
    pub merge: usize,
    /// Mean of red, green and blue, 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue, in the same scale.
    pub std: [f32; 3],
    /// Images with fewer pixels are enlarged.
    pub min_pixels: usize,
    /// Images with more pixels are reduced.
    pub max_pixels: usize,
    /// Rounding of the resampling weights: as torchvision (the default of transformers) or as Pillow.
    pub arithmetic: Arithmetic,
}

impl Default for ImageConfig {
    /// As published with Qwen3-VL.
    fn default() -> Self {
        Self {
            patch: 16,
            temporal_patch: 2,
            merge: 2,
            mean: [0.5; 3],
            std: [0.5; 3],
            min_pixels: 1 << 16,
            max_pixels: 1 << 24,
            arithmetic: Arithmetic::Libtorch,
        }
    }
}

impl ImageConfig {
    /// Reads the parameters from a checkpoint's folder; missing fields, or a missing file, give [`ImageConfig::default`].
    ///
    /// # Errors
    /// [`ImageError::Config`] with the field that is invalid or not supported.
    pub fn open(folder: &Path) -> Result<Self, ImageError> {
        let path = folder.join(FILE);
        let invalid = |source: Box<dyn Error + Send + Sync>| ImageError::Config {
            file: path.clone(),
            field: "file",
            source: source.into(),
        };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(invalid(error.into())),
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(|error| invalid(error.into()))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(invalid(format!("is larger than {MAX_BYTES} bytes").into()));
        }
        let value = serde_json::from_slice(&text).map_err(|error| invalid(error.into()))?;
        Self::parse(&value, &path)
    }

    /// Parses the content of `file`; the path is used in messages.
    ///
    /// # Errors
    /// As [`ImageConfig::open`].
    pub fn parse(value: &Value, file: &Path) -> Result<Self, ImageError> {
        let fields = Fields { value, file };
        let default = Self::default();
        for flag in ["do_resize", "do_rescale", "do_normalize", "do_convert_rgb"] {
            if !matches!(fields.get(flag), None | Some(Value::Bool(true))) {
                return Err(fields.refuse(flag, "is not true, the only supported value"));
            }
        }
        if fields.get("resample").is_some_and(|value| value.as_u64() != Some(3)) {
            return Err(fields.refuse("resample", "is not 3 (bicubic), the only supported filter"));
        }
        let factor = fields.get("rescale_factor").map_or(Some(1.0 / 255.0), Value::as_f64);
        if factor.is_none_or(|factor| (factor * 255.0 - 1.0).abs() > 1e-6) {
            return Err(fields.refuse("rescale_factor", "is not 1/255, the only supported value"));
        }
        let size = Fields { value: fields.get("size").unwrap_or(&Value::Null), file };
        // The older names take precedence over the newer ones, as in transformers.
        let pixels = |old: &'static str, new: &'static str, default: usize| -> Result<usize, ImageError> {
            let newer = size.count(new, default, 1..=1 << 28)?;
            fields.count(old, newer, 1..=1 << 28)
        };
        let config = Self {
            patch: fields.count("patch_size", default.patch, 1..=256)?,
            temporal_patch: fields.count("temporal_patch_size", default.temporal_patch, 1..=16)?,
            merge: fields.count("merge_size", default.merge, 1..=16)?,
            mean: fields.colours("image_mean", default.mean)?,
            std: fields.colours("image_std", default.std)?,
            min_pixels: pixels("min_pixels", "shortest_edge", default.min_pixels)?,
            max_pixels: pixels("max_pixels", "longest_edge", default.max_pixels)?,
            arithmetic: match fields.get("image_processor_type").and_then(Value::as_str) {
                Some(name) if name.ends_with("Pil") => Arithmetic::Pillow,
                _ => default.arithmetic,
            },
        };
        if config.std.contains(&0.0) {
            return Err(fields.refuse("image_std", "contains a zero"));
        }
        if config.min_pixels > config.max_pixels {
            return Err(fields.refuse("size", "has a maximum below the minimum"));
        }
        Ok(config)
    }

    /// Side of the square that becomes one token, pixels.
    #[must_use]
    pub fn factor(&self) -> usize {
        self.patch * self.merge
    }

    /// Number of values per patch.
    #[must_use]
    pub fn patch_values(&self) -> usize {
        3 * self.temporal_patch * self.patch * self.patch
    }
}

struct Fields<'a> {
    value: &'a Value,
    file: &'a Path,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    fn refuse(&self, field: &'static str, reason: impl Into<Box<dyn Error + Send + Sync>>) -> ImageError {
        ImageError::Config { file: PathBuf::from(self.file), field, source: reason.into().into() }
    }

    fn count(
        &self,
        name: &'static str,
        default: usize,
        allowed: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, ImageError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| allowed.contains(count))
            .ok_or_else(|| {
                self.refuse(
                    name,
                    format!("is not a whole number from {} to {}", allowed.start(), allowed.end()),
                )
            })
    }

    fn colours(&self, name: &'static str, default: [f32; 3]) -> Result<[f32; 3], ImageError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let numbers: Option<Vec<f32>> = value
            .as_array()
            .and_then(|list| list.iter().map(|item| item.as_f64().map(|number| number as f32)).collect());
        numbers
            .filter(|numbers| numbers.iter().all(|number| number.is_finite()))
            .and_then(|numbers| <[f32; 3]>::try_from(numbers).ok())
            .ok_or_else(|| self.refuse(name, "is not a list of three numbers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn the_published_file_is_the_default() {
        let value = json!({
            "size": {"longest_edge": 16_777_216, "shortest_edge": 65_536}, "patch_size": 16, "temporal_patch_size": 2,
            "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "processor_class": "Qwen3VLProcessor", "image_processor_type": "Qwen2VLImageProcessorFast"
        });
        assert_eq!(ImageConfig::parse(&value, Path::new("p.json")).expect("parses"), ImageConfig::default());
        assert_eq!(ImageConfig::open(Path::new("/nowhere/at/all")).expect("default"), ImageConfig::default());
    }

    #[rstest]
    #[case(json!({"patch_size": 0}), "patch_size")]
    #[case(json!({"patch_size": "16"}), "patch_size")]
    #[case(json!({"merge_size": 1e9}), "merge_size")]
    #[case(json!({"image_mean": [0.5, 0.5]}), "image_mean")]
    #[case(json!({"image_std": [0.5, 0.0, 0.5]}), "image_std")]
    #[case(json!({"size": {"longest_edge": 1, "shortest_edge": 2}}), "size")]
    #[case(json!({"max_pixels": -1}), "max_pixels")]
    #[case(json!({"do_normalize": false}), "do_normalize")]
    #[case(json!({"resample": 1}), "resample")]
    #[case(json!({"rescale_factor": 1}), "rescale_factor")]
    fn what_is_not_supported_is_named(#[case] value: Value, #[case] expected: &str) {
        let error = ImageConfig::parse(&value, Path::new("p.json")).expect_err("refused");
        assert!(matches!(error, ImageError::Config { field, .. } if field == expected), "{error}");
    }
}
