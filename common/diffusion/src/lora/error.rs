//! Why a LoRA cannot be used.

use videosdgx_api::Problem;
use videosdgx_tensor::CheckpointError;

/// A LoRA that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the LoRA {name} {fault}")]
pub struct LoraError {
    /// Its name in requests.
    pub name: String,
    /// What is wrong with it.
    #[source]
    pub fault: LoraFault,
}

/// What is wrong with a LoRA, as the rest of a sentence that begins with its name.
#[derive(Debug, thiserror::Error)]
pub enum LoraFault {
    /// There is no such file.
    #[error("is not installed; GET /loras lists those that are")]
    Missing,
    /// The file is not safetensors, or damaged.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// Why, without the file's path.
        reason: String,
        /// The error of the reader.
        #[source]
        source: CheckpointError,
    },
    /// No key belongs to a layer of the checkpoint.
    #[error("fits no layer of this checkpoint: 0 of its {keys} keys fit; the first is {example}")]
    NoLayer {
        /// Number of keys in the file.
        keys: usize,
        /// One of them.
        example: String,
    },
    /// A tensor has another size than its layer: the LoRA is for a larger or smaller model.
    #[error("does not fit this checkpoint: {key} {reason} ({fitting} of its {keys} keys fit)")]
    Shape {
        /// The first key that does not fit.
        key: String,
        /// Its shape and the layer's.
        reason: String,
        /// Number of keys whose layer exists and has the right size.
        fitting: usize,
        /// Number of keys in the file.
        keys: usize,
    },
    /// One of two matrices is missing.
    #[error("is incomplete: it has {present} and nothing to multiply it with")]
    Incomplete {
        /// The key that is there.
        present: String,
    },
    /// A kind of change that is not supported.
    #[error("cannot be used: {key} {reason}")]
    Unsupported {
        /// The key.
        key: String,
        /// What it is.
        reason: String,
    },
    /// A tensor contains NaN or infinity.
    #[error("is damaged: {key} contains NaN or infinity, or does in this service's dtype")]
    NotFinite {
        /// The key.
        key: String,
    },
    /// The file was replaced while it was read: another attempt reads the new one.
    #[error("changed while it was read")]
    Changed,
}

impl LoraFault {
    /// The error about the LoRA `name`.
    pub(super) fn of(self, name: &str) -> LoraError {
        LoraError { name: name.to_owned(), fault: self }
    }
}

impl From<CheckpointError> for LoraFault {
    fn from(source: CheckpointError) -> Self {
        match source {
            CheckpointError::Missing { .. } => Self::Missing,
            CheckpointError::Invalid { ref reason, .. } => {
                Self::Unreadable { reason: reason.clone(), source }
            }
        }
    }
}

impl LoraError {
    /// The problem of the request's field `loras[index]`.
    #[must_use]
    pub fn problem(&self, index: usize) -> Problem {
        Problem::field(format!("loras[{index}].name"), self.to_string())
    }
}
