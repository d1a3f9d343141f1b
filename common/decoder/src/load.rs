//! Loads the weights of a checkpoint.

use std::path::Path;
use std::sync::Arc;

use tch::{Kind, Tensor};
use videosdgx_tensor::{KvCache, TensorError, Weights, catch_libtorch_errors};

use crate::attention::cache_shape;
use crate::layer::Layer;
use crate::names::{Layout, VISION};
use crate::pictures::Pictures;
use crate::rotary::Rotary;
use crate::vision::{VisionConfig, VisionTower};
use crate::{DecoderConfig, LoadError, LoadOptions, Source, TextModel};

/// Tensors in some files that only repeat the configuration.
const REDUNDANT: &[&str] = &["rotary_emb.inv_freq", "rope_freqs.weight"];

impl TextModel {
    /// Opens and loads the checkpoint at `path`; see [`Source::open`]. Its cache is empty: [`Decoder::resize_cache`] first.
    ///
    /// # Errors
    /// As [`Source::open`] and [`Source::load`].
    ///
    /// [`Decoder::resize_cache`]: videosdgx_decoder_api::Decoder::resize_cache
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, LoadError> {
        Source::open(path)?.load(options)
    }
}

impl Source {
    /// Loads all weights.
    ///
    /// # Errors
    /// [`LoadError::Tensor`] naming the file when a tensor is missing or its shape differs from the configuration, or
    /// when memory is exhausted.
    pub fn load(self, options: &LoadOptions) -> Result<TextModel, LoadError> {
        let vision = self.vision()?;
        catch_libtorch_errors(|| self.load_all(vision.as_ref(), options))
    }

    /// The configuration of the vision tower, if the model accepts pictures.
    ///
    /// # Errors
    /// [`LoadError::Config`] with the name of the field.
    pub fn vision(&self) -> Result<Option<VisionConfig>, LoadError> {
        let Some(vision) = &self.config.vision else { return Ok(None) };
        let refused = |error| LoadError::Config { file: self.file.clone(), error };
        let vision = VisionConfig::parse(vision).map_err(refused)?;
        if vision.out_hidden != self.config.hidden {
            let reason = format!("is {}, the text layers are {} wide", vision.out_hidden, self.config.hidden);
            return Err(refused(crate::ConfigError::Field {
                field: "vision_config.out_hidden_size".into(),
                reason,
            }));
        }
        Ok(Some(vision))
    }

    fn load_all(self, vision: Option<&VisionConfig>, options: &LoadOptions) -> Result<TextModel, LoadError> {
        let Self { config, checkpoint, layout, .. } = self;
        let mut weights =
            Weights::new(Arc::new(checkpoint), options.device, options.kind, options.quantization);
        if options.exact {
            weights = weights.exact();
        } else if let Some(folder) = &options.weight_cache {
            weights = weights.with_weight_cache(folder);
        }
        let embedding = layout.embedding(config.family);
        let embedding = weights.unquantized().embedding(&embedding, config.vocab, config.hidden)?;
        let head = match config.tied_head {
            true => embedding.tied_output(),
            false => weights.unquantized().linear(layout.head(), config.hidden, config.vocab, false)?,
        };
        let layers = (0..config.layers.len()).map(|index| Layer::load(&weights, &config, layout, index));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let norm = weights.at(layout.final_norm(config.family)).tensor("weight", &[config.hidden])?;
        let pictures = match vision {
            Some(vision) => Some(Pictures::new(VisionTower::load(&weights.at(VISION), vision)?)),
            None => None,
        };
        let factors = rope_factors(&weights, config.rope.dim)?;
        weights.finish_weight_cache();
        let model = TextModel {
            rotary: Rotary::new(&config.rope, factors.as_deref(), options.device),
            cache: KvCache::new(cache_shape(&config), options.cache_kind, options.device)?,
            device: options.device,
            kind: options.kind,
            unused: unused(&weights, &config, layout),
            weight_bytes: weights.resident_bytes(),
            config,
            embedding,
            layers,
            norm,
            head,
            pictures,
        };
        if !model.unused.is_empty() {
            let (count, first) = (model.unused.len(), &model.unused[0]);
            tracing::warn!(count, first, "tensors of the checkpoint are not used");
        }
        Ok(model)
    }
}

/// Divisors of the rotary frequencies, if a GGUF file has them.
fn rope_factors(weights: &Weights, dim: i64) -> Result<Option<Vec<f32>>, TensorError> {
    const NAME: &str = "rope_freqs.weight";
    if !weights.contains(NAME) {
        return Ok(None);
    }
    let factors: Tensor = weights.tensor_as(NAME, &[dim / 2], Kind::Float)?;
    Ok(Some(Vec::try_from(factors.to_device(tch::Device::Cpu))?))
}

/// Tensors that were not loaded and are not redundant, sorted.
fn unused(weights: &Weights, config: &DecoderConfig, layout: Layout) -> Vec<String> {
    let mut names = weights.unused();
    names.retain(|name| !is_ignorable(config, layout, name));
    names
}

/// Whether a tensor is in some files and is not needed: layers for multi-token prediction, a second copy of a tied
/// output layer, and tensors that only repeat the configuration.
pub(crate) fn is_ignorable(config: &DecoderConfig, layout: Layout, name: &str) -> bool {
    let layers = config.layers.len();
    let extra = |index| name.starts_with(&format!("{}.", layout.layer(config.family, index)));
    (layers..layers + config.extra_layers).any(extra)
        || REDUNDANT.iter().any(|suffix| name.ends_with(suffix))
        || (config.tied_head && name.strip_suffix(".weight") == Some(layout.head()))
}
