//! A checkpoint that was looked at and not loaded: what it is and what it will take.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind};
use videosdgx_gguf::Gguf;
use videosdgx_tensor::{Checkpoint, CheckpointError, DtypeChoice, Quantization, read_json, resolve_kind};

use crate::config::from_metadata;
use crate::names::Layout;
use crate::{DecoderConfig, LoadError};

/// How a model is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where it lives.
    pub device: Device,
    /// What it computes in: `Float` or `BFloat16` (`Half` on a GPU).
    pub kind: Kind,
    /// What its KV cache holds: `Float`, `BFloat16` or `Half`.
    pub cache_kind: Kind,
    /// What the large linears are held in.
    pub quantization: Quantization,
    /// Computes with exactly the values that the checkpoint means, at the price of unquantised weights: for comparison
    /// with a reference.
    pub exact: bool,
    /// Keeps a copy of what is quantised while loading in this folder, which the next load reads instead.
    pub copies: Option<PathBuf>,
}

impl LoadOptions {
    /// Without a copy, in whatever form is fastest; the cache holds what is computed, unrounded.
    #[must_use]
    pub fn new(device: Device, kind: Kind, quantization: Quantization) -> Self {
        Self { device, kind, cache_kind: kind, quantization, exact: false, copies: None }
    }
}

/// An opened checkpoint: headers and configuration are read and checked, weights are not.
pub struct Source {
    pub(crate) path: PathBuf,
    /// With the configuration: `config.json` or the GGUF file.
    pub(crate) file: PathBuf,
    pub(crate) config: DecoderConfig,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) layout: Layout,
}

impl Source {
    /// Opens a transformers folder (`config.json` and safetensors), a GGUF file, or a folder that holds one.
    ///
    /// # Errors
    /// [`LoadError::Config`] for a model that is not computed here; the checkpoint's errors name the file.
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
        Ok(Self { path: path.to_owned(), file, config, checkpoint, layout })
    }

    /// The folder, or the GGUF file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self.layout {
            Layout::Transformers => &self.path,
            Layout::Gguf => &self.file,
        }
    }

    /// What it computes.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Whose names its tensors have.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What to compute in: as `choice` says, and when it leaves that open, what this checkpoint is best at on `device`. The
    /// integer products of a GGUF file's blocks on the CPU take and give f32, so that nothing is gained by rounding in between.
    fn kind(&self, choice: DtypeChoice, device: Device) -> Kind {
        match (choice, self.layout, device) {
            (DtypeChoice::Auto, Layout::Gguf, Device::Cpu) => Kind::Float,
            _ => resolve_kind(choice, device),
        }
    }

    /// What the KV cache of a model that computes in `kind` holds: as `choice` says, else the same, but half precision where
    /// [`Source::kind`] chose f32 for a GGUF file. Its weights are far coarser, and a context takes half the bytes.
    fn cache_kind(&self, choice: DtypeChoice, kind: Kind, device: Device) -> Kind {
        match (choice, self.layout, device) {
            (DtypeChoice::Auto, Layout::Gguf, Device::Cpu) if kind == Kind::Float => Kind::Half,
            (DtypeChoice::Auto, ..) => kind,
            _ => resolve_kind(choice, device),
        }
    }

    /// How it is loaded on `device`, with what it computes in and what its cache holds as the two choices say.
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

    /// Its files.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

/// The file with the configuration.
fn find(path: &Path) -> Result<(PathBuf, Layout), LoadError> {
    if !path.is_dir() {
        return match path.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("gguf") => Ok((path.to_owned(), Layout::Gguf)),
            _ if !path.exists() => Err(CheckpointError::Missing { path: path.to_owned() }.into()),
            _ => Err(CheckpointError::invalid(path, "is neither a folder nor a GGUF file").into()),
        };
    }
    let config = path.join("config.json");
    if config.is_file() {
        return Ok((config, Layout::Transformers));
    }
    let entries = std::fs::read_dir(path).map_err(|error| CheckpointError::io(path, error))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")));
    match files.as_slice() {
        [file] => Ok((file.clone(), Layout::Gguf)),
        [] => Err(CheckpointError::Missing { path: config }.into()),
        several => {
            let reason = format!("holds {} GGUF files, name the one to use", several.len());
            Err(CheckpointError::invalid(path, reason).into())
        }
    }
}
