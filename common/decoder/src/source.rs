//! An opened checkpoint that is not loaded yet.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind};
use videosdgx_gguf::Gguf;
use videosdgx_tensor::{Checkpoint, CheckpointError, DtypeChoice, Quantization, read_json, resolve_kind};

use crate::config::from_metadata;
use crate::names::{Layout, Names};
use crate::{DecoderConfig, LoadError};

/// Options for loading a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Device of the weights and the cache.
    pub device: Device,
    /// Compute type: `Float` or `BFloat16` (`Half` on a GPU).
    pub kind: Kind,
    /// Element type of the KV cache: `Float`, `BFloat16` or `Half`.
    pub cache_kind: Kind,
    /// Format that the large linear layers are quantised to.
    pub quantization: Quantization,
    /// Computes with exactly the values of the checkpoint, using the memory of unquantised weights; for comparison
    /// with a reference.
    pub exact: bool,
    /// Folder for a cache of the weights that are quantised while loading; see [`Weights::with_weight_cache`].
    ///
    /// [`Weights::with_weight_cache`]: videosdgx_tensor::Weights::with_weight_cache
    pub weight_cache: Option<PathBuf>,
}

impl LoadOptions {
    /// Options without a weight cache and without exactness; the KV cache has the compute type.
    #[must_use]
    pub fn new(device: Device, kind: Kind, quantization: Quantization) -> Self {
        Self { device, kind, cache_kind: kind, quantization, exact: false, weight_cache: None }
    }
}

/// An opened checkpoint: headers and configuration are read and checked, weights are not.
///
/// ```no_run
/// # fn main() -> Result<(), videosdgx_decoder::LoadError> {
/// let source = videosdgx_decoder::Source::open("checkpoints/smollm2-135m")?;
/// println!("{}: {} parameters", source.config().family.model_type(), source.parameters());
/// # Ok(())
/// # }
/// ```
pub struct Source {
    pub(crate) path: PathBuf,
    /// The file with the configuration: `config.json` or the GGUF file.
    pub(crate) file: PathBuf,
    pub(crate) config: DecoderConfig,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) names: Names,
}

impl Source {
    /// Opens a transformers folder (`config.json` and safetensors), a GGUF file, or a folder that holds one (beside the
    /// original model's `config.json`, too).
    ///
    /// # Errors
    /// [`LoadError::Config`] for a model that is not supported; [`LoadError::Tensor`] naming a missing or invalid
    /// file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        let (file, layout) = find(path)?;
        let refused = |error| LoadError::Config { file: file.clone(), error };
        let (config, checkpoint) = match layout {
            Layout::Transformers => {
                let config = DecoderConfig::from_json(&read_json::<Value>(&file)?).map_err(refused)?;
                (config, Checkpoint::open(path)?)
            }
            Layout::Gguf => {
                let header = Gguf::open(&file).map_err(CheckpointError::from)?;
                (from_metadata(&header).map_err(refused)?, Checkpoint::open_file(&file)?)
            }
        };
        let names = Names::new(layout, &config, |name| checkpoint.entry(name).is_some());
        Ok(Self { path: path.to_owned(), file, config, checkpoint, names })
    }

    /// The folder, or the GGUF file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self.layout() {
            Layout::Transformers => &self.path,
            Layout::Gguf => &self.file,
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The naming scheme of the tensors.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.names.layout()
    }

    /// The compute type for `choice`; `auto` is the best type for this checkpoint on `device`. On the CPU the integer
    /// products of a GGUF file's blocks take and return f32, so rounding in between gains nothing.
    fn kind(&self, choice: DtypeChoice, device: Device) -> Kind {
        match (choice, self.layout(), device) {
            (DtypeChoice::Auto, Layout::Gguf, Device::Cpu) => Kind::Float,
            _ => resolve_kind(choice, device),
        }
    }

    /// The element type of the KV cache for `choice`; `auto` is the compute type, but half precision where
    /// [`Source::kind`] chose f32 for a GGUF file: its weights are far less precise, and a context takes half the
    /// memory.
    fn cache_kind(&self, choice: DtypeChoice, kind: Kind, device: Device) -> Kind {
        match (choice, self.layout(), device) {
            (DtypeChoice::Auto, Layout::Gguf, Device::Cpu) if kind == Kind::Float => Kind::Half,
            (DtypeChoice::Auto, ..) => kind,
            _ => resolve_kind(choice, device),
        }
    }

    /// Options for loading on `device`, with the compute type and the cache type resolved from the two choices.
    #[must_use]
    pub fn options(
        &self,
        device: Device,
        [dtype, cache]: [DtypeChoice; 2],
        quantization: Quantization,
    ) -> LoadOptions {
        let kind = self.kind(dtype, device);
        let cache_kind = self.cache_kind(cache, kind, device);
        LoadOptions { cache_kind, ..LoadOptions::new(device, kind, quantization) }
    }

    /// The underlying checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

/// Finds the configuration file and the naming scheme.
fn find(path: &Path) -> Result<(PathBuf, Layout), LoadError> {
    if !path.is_dir() {
        return match path.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("gguf") => Ok((path.to_owned(), Layout::Gguf)),
            _ if !path.exists() => Err(CheckpointError::Missing { path: path.to_owned() }.into()),
            _ => Err(CheckpointError::invalid(path, "is neither a folder nor a GGUF file").into()),
        };
    }
    if let Some(file) = videosdgx_gguf::file_in(path).map_err(CheckpointError::from)? {
        return Ok((file, Layout::Gguf));
    }
    let config = path.join("config.json");
    if config.is_file() {
        return Ok((config, Layout::Transformers));
    }
    Err(CheckpointError::Missing { path: config }.into())
}
