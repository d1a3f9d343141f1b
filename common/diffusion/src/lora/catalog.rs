//! The folder of a service's LoRAs.

use std::fs;
use std::path::PathBuf;

use videosdgx_api::{Lora, LoraChoice, MAX_LORAS, Problem};
use videosdgx_tensor::{AdaptableLayers, Kind};

use super::fit::{Fit, LoraFile};
use super::tensors::{LoadedLora, ModelLayers};
use super::{CheckpointLayers, LoraError, LoraFault, LoraNames};
use crate::PipelineError;

/// Extension of the files.
const EXTENSION: &str = "safetensors";
/// Most files that are listed.
const MAX_LISTED: usize = 1000;

/// The LoRAs in a folder, one `<name>.safetensors` each. It is read at each call, so that files can be added, exchanged and
/// removed while the service runs.
#[derive(Debug, Clone)]
pub struct LoraCatalog {
    folder: PathBuf,
}

/// A LoRA of a request whose file is there.
pub struct ChosenLora {
    name: String,
    scale: f64,
    file: LoraFile,
}

impl LoraCatalog {
    /// Of a folder, which need not exist.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Every LoRA, sorted by name, with how it fits `layers`.
    #[must_use]
    pub fn list(&self, layers: &CheckpointLayers) -> Vec<Lora> {
        self.names().into_iter().map(|name| self.describe(name, layers)).collect()
    }

    /// Checks that the LoRAs of a request exist and fit `layers`; warnings for the caller.
    ///
    /// # Errors
    /// The problem of the first that cannot be used, which names its entry of the field `loras`.
    pub fn check(&self, choices: &[LoraChoice], layers: &CheckpointLayers) -> Result<Vec<String>, Problem> {
        let mut warnings = Vec::new();
        for (index, choice) in choices.iter().enumerate() {
            let fit = self.open(&choice.name).and_then(|file| fit(&file, layers));
            let fit = fit.map_err(|fault| fault.of(&choice.name).problem(index))?;
            warnings.extend(fit.warning(&choice.name));
        }
        Ok(warnings)
    }

    /// The files of the LoRAs of a job, in its order; without those of scale 0, which change nothing.
    ///
    /// # Errors
    /// The problem of the first that is missing or unreadable, which names its entry of the field `loras`.
    pub fn choose(&self, choices: &[LoraChoice]) -> Result<Vec<ChosenLora>, Problem> {
        let used = choices.iter().enumerate().filter(|(_, choice)| choice.scale != 0.0);
        used.map(|(index, LoraChoice { name, scale })| {
            let file = self.open(name).map_err(|fault| fault.of(name).problem(index))?;
            Ok(ChosenLora { name: name.clone(), scale: *scale, file })
        })
        .collect()
    }

    /// Bytes that the largest LoRAs of one request take in memory, computing in `kind`.
    #[must_use]
    pub fn largest_bytes(&self, kind: Kind) -> u64 {
        let bytes = |name: String| {
            let file = self.open(&name).ok()?;
            Some(bytes_in(&file, kind))
        };
        let mut bytes: Vec<u64> = self.names().into_iter().filter_map(bytes).collect();
        bytes.sort_unstable_by(|left, right| right.cmp(left));
        bytes.into_iter().take(MAX_LORAS as usize).sum()
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let name = |path: PathBuf| {
            let is_lora = path.extension().is_some_and(|extension| extension == EXTENSION) && path.is_file();
            let name = path.file_stem()?.to_str()?.to_owned();
            (is_lora && !name.starts_with('.')).then_some(name)
        };
        let mut names: Vec<String> = entries.filter_map(|entry| name(entry.ok()?.path())).collect();
        names.sort_unstable();
        names.truncate(MAX_LISTED);
        names
    }

    fn open(&self, name: &str) -> Result<LoraFile, LoraFault> {
        // Requests are checked before; this keeps every caller inside the folder.
        if name.contains('/') || name.starts_with('.') {
            return Err(LoraFault::Missing);
        }
        Ok(LoraFile::open(&self.folder.join(format!("{name}.{EXTENSION}")))?)
    }

    fn describe(&self, name: String, layers: &CheckpointLayers) -> Lora {
        let path = self.folder.join(format!("{name}.{EXTENSION}"));
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let unusable = |fault: LoraFault| Some(LoraError { name: name.clone(), fault }.to_string());
        let (keys, trigger, title, error) = match self.open(&name) {
            Ok(file) => {
                let error = fit(&file, layers).err().and_then(unusable);
                (file.keys(layers.names()), file.trigger(), file.title(), error)
            }
            Err(fault) => (Fit::default(), None, None, unusable(fault)),
        };
        Lora {
            bytes,
            keys: keys.keys as u64,
            fitting_keys: keys.fitting as u64,
            layers: keys.layers.len() as u64,
            ranks: keys.ranks.into_iter().collect(),
            layout: keys.layout,
            trigger,
            title,
            error,
            name,
        }
    }
}

fn fit(file: &LoraFile, layers: &CheckpointLayers) -> Result<Fit, LoraFault> {
    file.fit(layers.names(), |layer| layers.shape(layer))
}

fn bytes_in(file: &LoraFile, kind: Kind) -> u64 {
    let checkpoint = &file.checkpoint;
    let elements = |name| checkpoint.entry(name).map_or(0, |entry| entry.bytes / entry.kind.size());
    checkpoint.names().map(elements).sum::<u64>().saturating_mul(kind.elt_size_in_bytes() as u64)
}

impl ChosenLora {
    /// Its name in the request.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How strongly it is applied.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Identifies its file's content.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.file.fingerprint
    }

    /// Bytes that it takes in memory, computing in `kind`.
    #[must_use]
    pub fn bytes_in(&self, kind: Kind) -> u64 {
        bytes_in(&self.file, kind)
    }

    /// Reads its tensors and changes `layers` by them, until [`AdaptableLayers::clear`]; keeps nothing for another time.
    ///
    /// # Errors
    /// [`PipelineError::Lora`] when it does not fit or is damaged; [`PipelineError::Tensor`] when memory is exhausted.
    pub fn apply(&self, layers: &AdaptableLayers, names: &LoraNames) -> Result<(), PipelineError> {
        let loaded = LoadedLora::read(&self.name, &self.file, &ModelLayers::new(layers, names))?;
        Ok(loaded.apply(layers, self.scale)?)
    }

    pub(super) fn file(&self) -> &LoraFile {
        &self.file
    }
}
