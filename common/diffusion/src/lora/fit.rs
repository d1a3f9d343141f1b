//! Which layers a LoRA's file changes, from its header.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use videosdgx_api::LoraLayout;
use videosdgx_tensor::{
    Checkpoint, CheckpointError, StoredDtype, TensorEntry, file_fingerprint, read_metadata,
};

use super::LoraFault;
use super::keys::{Key, Role, Spelling, parse};
use super::names::LayerIndex;
use super::scaling::{ADAPTER_METADATA, AdapterScaling};

/// Metadata entries with words that call the LoRA in a prompt, the most specific first.
const TRIGGER_NAMES: &[&str] =
    &["modelspec.trigger_phrase", "trigger_phrase", "trigger_words", "trigger_word"];
/// Metadata entries with a title.
const TITLE_NAMES: &[&str] = &["modelspec.title", "ss_output_name"];
/// Most characters of a title or a trigger that are shown.
const SHOWN_CHARACTERS: usize = 500;

/// An opened file.
pub(super) struct LoraFile {
    pub(super) path: PathBuf,
    /// Identifies the file's content.
    pub(super) fingerprint: String,
    pub(super) checkpoint: Checkpoint,
    metadata: BTreeMap<String, String>,
}

impl LoraFile {
    /// Reads the header.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let wanted = |name: &str| {
            name == ADAPTER_METADATA || TRIGGER_NAMES.contains(&name) || TITLE_NAMES.contains(&name)
        };
        Ok(Self {
            path: path.to_owned(),
            fingerprint: file_fingerprint(path)?,
            checkpoint: Checkpoint::open_file(path)?,
            metadata: read_metadata(path, wanted)?,
        })
    }

    /// Whether the file is still the one that was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        file_fingerprint(&self.path).is_ok_and(|now| now == self.fingerprint)
    }

    pub(super) fn trigger(&self) -> Option<String> {
        self.text(TRIGGER_NAMES)
    }

    pub(super) fn title(&self) -> Option<String> {
        self.text(TITLE_NAMES)
    }

    fn text(&self, names: &[&str]) -> Option<String> {
        let text = names.iter().find_map(|name| self.metadata.get(*name))?.trim();
        (!text.is_empty()).then(|| text.chars().take(SHOWN_CHARACTERS).collect())
    }

    /// The layers that the file changes.
    ///
    /// # Errors
    /// Why it cannot be used with these layers; `shape(layer)` is `[outputs, inputs]`, if known.
    pub(super) fn fit(
        &self,
        layers: &LayerIndex,
        shape: impl Fn(&str) -> Option<[i64; 2]>,
    ) -> Result<Fit, LoraFault> {
        let mut fit = self.keys(layers);
        if fit.fitting == 0 {
            let example = fit.unused.first().map_or("none, the file is empty", String::as_str).to_owned();
            return Err(LoraFault::NoLayer { keys: fit.keys, example });
        }
        if let Some(key) = fit.layers.values().find_map(LayerKeys::repeated) {
            let reason = "changes a layer that another key changes in the same way".to_owned();
            return Err(LoraFault::Unsupported { key: key.to_owned(), reason });
        }
        if let Some(key) = fit.unused.iter().find(|key| key.contains("lora_magnitude_vector")) {
            let reason = "is of a DoRA, which is not supported".to_owned();
            return Err(LoraFault::Unsupported { key: key.clone(), reason });
        }
        self.check_shapes(&fit, shape)?;
        fit.scaling = match self.metadata.get(ADAPTER_METADATA) {
            None => AdapterScaling::default(),
            Some(text) => AdapterScaling::parse(text, layers.component()).map_err(|error| {
                LoraFault::from(CheckpointError::invalid(&self.path, format!("{ADAPTER_METADATA}: {error}")))
            })?,
        };
        Ok(fit)
    }

    /// Sorts the keys by layers; checks nothing.
    pub(super) fn keys(&self, layers: &LayerIndex) -> Fit {
        let mut names: Vec<&str> = self.checkpoint.names().collect();
        names.sort_unstable();
        let mut fit = Fit { keys: names.len(), ..Fit::default() };
        let mut spellings = Vec::new();
        for name in names {
            match parse(name, layers) {
                Some(Key { layer, role, spelling }) => {
                    fit.fitting += 1;
                    spellings.push(spelling);
                    fit.layers.entry(layer.to_owned()).or_default().insert(role, name.to_owned());
                }
                None => fit.unused.push(name.to_owned()),
            }
        }
        let ranks = fit.layers.values().filter_map(|keys| self.entry(keys.get(Role::Down)?)?.shape.first());
        fit.ranks = ranks.map(|rank| rank.unsigned_abs()).collect();
        fit.layout = layout(&spellings);
        fit
    }

    fn entry(&self, key: &str) -> Option<&TensorEntry> {
        self.checkpoint.entry(key)
    }

    fn check_shapes(&self, fit: &Fit, shape: impl Fn(&str) -> Option<[i64; 2]>) -> Result<(), LoraFault> {
        let mut misfit = None;
        let mut wrong = 0;
        for (layer, keys) in &fit.layers {
            let known = shape(layer);
            if let Some((key, reason)) = self.misfit(keys, known)? {
                wrong += keys.0.len();
                misfit.get_or_insert((key, reason));
            }
        }
        match misfit {
            None => Ok(()),
            Some((key, reason)) => {
                Err(LoraFault::Shape { key, reason, fitting: fit.fitting - wrong, keys: fit.keys })
            }
        }
    }

    /// The first key of a layer whose shape is wrong, and why.
    fn misfit(
        &self,
        keys: &LayerKeys,
        layer: Option<[i64; 2]>,
    ) -> Result<Option<(String, String)>, LoraFault> {
        let alone = match (keys.get(Role::Down), keys.get(Role::Up)) {
            (Some(_), Some(_)) => None,
            (down, up) => down.or(up).or_else(|| keys.get(Role::UpBias)),
        };
        if let Some(present) = alone {
            return Err(LoraFault::Incomplete { present: present.to_owned() });
        }
        let rank =
            keys.get(Role::Down).and_then(|down| self.entry(down)?.shape.first().copied()).unwrap_or(0);
        for (role, key) in &keys.0 {
            let Some(entry) = self.entry(key) else { continue };
            check_type(key, entry)?;
            let is_fitting = match (role, entry.shape.as_slice(), layer) {
                (Role::Alpha, shape, _) => shape.iter().product::<i64>() == 1,
                (Role::Down, &[_, inputs], Some([_, expected])) => inputs == expected && rank > 0,
                (Role::Down, &[_, _], None) => rank > 0,
                (Role::Up, &[outputs, own], Some([expected, _])) => outputs == expected && own == rank,
                (Role::Up, &[_, own], None) => own == rank,
                (Role::UpBias | Role::BiasDifference, &[outputs], Some([expected, _])) => outputs == expected,
                (Role::UpBias | Role::BiasDifference, &[_], None) => true,
                (Role::Difference, &[outputs, inputs], Some(expected)) => [outputs, inputs] == expected,
                (Role::Difference, &[_, _], None) => true,
                _ => false,
            };
            if !is_fitting {
                let of_layer = layer.map_or("another shape".to_owned(), |[outputs, inputs]| {
                    format!("{inputs} inputs and {outputs} outputs")
                });
                return Ok(Some((
                    key.clone(),
                    format!("has shape {:?}, its layer has {of_layer}", entry.shape),
                )));
            }
        }
        Ok(None)
    }
}

fn check_type(key: &str, entry: &TensorEntry) -> Result<(), LoraFault> {
    use StoredDtype::{Bf16, F16, F32, F64};
    match entry.kind {
        F64 | F32 | F16 | Bf16 => Ok(()),
        other => {
            let reason = format!("is stored as {other:?}, not as f32, f16 or bf16");
            Err(LoraFault::Unsupported { key: key.to_owned(), reason })
        }
    }
}

/// The layers that a file changes, and what it does not change.
#[derive(Debug, Default)]
pub(super) struct Fit {
    /// Keys by layer.
    pub(super) layers: BTreeMap<String, LayerKeys>,
    /// Number of keys in the file.
    pub(super) keys: usize,
    /// Number of keys of layers that the model has.
    pub(super) fitting: usize,
    /// The other keys, sorted.
    pub(super) unused: Vec<String>,
    pub(super) ranks: BTreeSet<u64>,
    pub(super) layout: Option<LoraLayout>,
    pub(super) scaling: AdapterScaling,
}

impl Fit {
    /// What to tell the caller about keys that are not used.
    pub(super) fn warning(&self, name: &str) -> Option<String> {
        let first = self.unused.first()?;
        let (unused, keys) = (self.unused.len(), self.keys);
        Some(format!(
            "{unused} of the {keys} keys of the LoRA {name} fit no linear layer of this checkpoint and are not used; the \
             first is {first}"
        ))
    }
}

/// The keys of one layer.
#[derive(Debug, Default)]
pub(super) struct LayerKeys(Vec<(Role, String)>);

impl LayerKeys {
    fn insert(&mut self, role: Role, key: String) {
        self.0.push((role, key));
    }

    /// A key whose role another key has, too.
    fn repeated(&self) -> Option<&str> {
        let mut keys = self.0.iter().enumerate();
        let is_second = |at: usize, role: Role| self.0[..at].iter().any(|(before, _)| *before == role);
        keys.find(|(at, (role, _))| is_second(*at, *role)).map(|(_, (_, key))| key.as_str())
    }

    pub(super) fn get(&self, role: Role) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == role).map(|(_, key)| key.as_str())
    }
}

fn layout(spellings: &[Spelling]) -> Option<LoraLayout> {
    let any = |is: fn(&Spelling) -> bool| spellings.iter().any(is);
    if spellings.is_empty() {
        return None;
    }
    Some(match (any(|key| key.is_flat), any(|key| key.is_original), any(|key| key.is_comfy)) {
        (true, ..) => LoraLayout::Kohya,
        (_, true, true) => LoraLayout::Comfy,
        (_, true, false) => LoraLayout::Original,
        (_, false, _) => LoraLayout::Diffusers,
    })
}
