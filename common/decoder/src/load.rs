//! Loads the weights of a checkpoint.

use std::path::Path;
use std::sync::Arc;

use videosdgx_tensor::{Checkpoint, KvCache, Weights, catch_libtorch_errors};

use crate::attention::cache_shape;
use crate::names::{Names, VISION, is_unused_vision};
use crate::pictures::Pictures;
use crate::stack::Stack;
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
        let Self { config, checkpoint, names, .. } = self;
        let weights = weights(checkpoint, options);
        let embedding = weights.unquantized().embedding(&names.embedding(), config.vocab, config.hidden)?;
        let head = match config.tied_head {
            true => embedding.tied_output(),
            false => weights.unquantized().linear(names.head(), config.hidden, config.vocab, false)?,
        };
        let stack = Stack::load(&weights, &config, names)?;
        let pictures = match vision {
            Some(vision) => Some(Pictures::new(VisionTower::load(&weights.at(VISION), vision)?)),
            None => None,
        };
        weights.finish_weight_cache();
        let model = TextModel {
            cache: KvCache::new(cache_shape(&config), options.cache_kind, options.device)?,
            device: options.device,
            kind: options.kind,
            unused: unused(&weights, &config, names),
            weight_bytes: weights.resident_bytes(),
            config,
            embedding,
            stack,
            head,
            pictures,
        };
        Ok(model)
    }
}

/// The weights of a checkpoint as `options` say.
pub(crate) fn weights(checkpoint: Checkpoint, options: &LoadOptions) -> Weights {
    let weights = Weights::new(Arc::new(checkpoint), options.device, options.kind, options.quantization);
    match &options.weight_cache {
        _ if options.exact => weights.exact(),
        Some(folder) => weights.with_weight_cache(folder),
        None => weights,
    }
}

/// Tensors that were not loaded and are not redundant, sorted; a warning is logged if there are any.
pub(crate) fn unused(weights: &Weights, config: &DecoderConfig, names: Names) -> Vec<String> {
    let mut unused = weights.unused();
    unused.retain(|name| !is_ignorable(config, names, name));
    if let Some(first) = unused.first() {
        tracing::warn!(count = unused.len(), first, "tensors of the checkpoint are not used");
    }
    unused
}

/// Whether a tensor is in some files and is not needed: layers for multi-token prediction, a second copy of a tied
/// output layer, tensors that only repeat the configuration, and a vision tower that is not used.
pub(crate) fn is_ignorable(config: &DecoderConfig, names: Names, name: &str) -> bool {
    let layers = config.layers.len();
    let extra = |index| name.starts_with(&format!("{}.", names.layer(index)));
    (layers..layers + config.extra_layers).any(extra)
        || REDUNDANT.iter().any(|suffix| name.ends_with(suffix))
        || (config.tied_head && name.strip_suffix(".weight") == Some(names.head()))
        || is_unused_vision(config.family, name)
}
