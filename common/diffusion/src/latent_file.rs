//! Latents on the disk between denoising and decoding: a decode that fails is tried again without denoising.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use videosdgx_tensor::{Checkpoint, Kind, Tensor, TensorError};

use super::PipelineError;

const NAME: &str = "latents";

/// The file of one request's latents.
pub(super) struct LatentFile {
    path: PathBuf,
}

impl LatentFile {
    /// In `folder`, for the request with this fingerprint.
    pub(super) fn new(folder: &Path, fingerprint: u64) -> Self {
        Self { path: folder.join(format!("latents-{fingerprint:016x}.safetensors")) }
    }

    /// Latents of `shape` kept earlier. A file that is not whole is as good as none.
    pub(super) fn read(&self, shape: &[i64]) -> Result<Option<Tensor>, PipelineError> {
        if !self.path.is_file() {
            return Ok(None);
        }
        let read = || -> Result<Option<Tensor>, TensorError> {
            let checkpoint = Checkpoint::open_file(&self.path)?;
            let fits = checkpoint.entry(NAME).is_some_and(|entry| entry.shape == shape);
            if fits { Ok(Some(checkpoint.read(NAME)?.f_to_kind(Kind::Float)?)) } else { Ok(None) }
        };
        match read() {
            Ok(latents) => Ok(latents),
            Err(TensorError::Checkpoint(error)) => {
                tracing::warn!(%error, "kept latents are not readable, denoising again");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps `latents`: written under another name, synced, renamed.
    pub(super) fn write(&self, latents: &Tensor) -> Result<(), PipelineError> {
        let temporary = self.path.with_extension("tmp");
        let scratch = |error| PipelineError::Scratch { path: self.path.clone(), error };
        Tensor::write_safetensors(&[(NAME, latents)], &temporary)
            .map_err(|error| scratch(std::io::Error::other(error.to_string())))?;
        File::open(&temporary).and_then(|file| file.sync_all()).map_err(scratch)?;
        fs::rename(&temporary, &self.path).map_err(scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use videosdgx_tensor::Device;

    #[test]
    fn latents_come_back_as_they_were_or_not_at_all() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = LatentFile::new(folder.path(), 7);
        let latents = Tensor::randn([1, 4, 2, 3, 3], (Kind::Float, Device::Cpu));
        assert!(file.read(&[1, 4, 2, 3, 3]).expect("reads").is_none());
        file.write(&latents).expect("writes");
        assert_eq!(file.read(&[1, 4, 2, 3, 3]).expect("reads"), Some(latents));
        assert!(file.read(&[1, 4, 2, 3, 4]).expect("reads").is_none(), "another size");
        assert!(
            LatentFile::new(folder.path(), 8).read(&[1, 4, 2, 3, 3]).expect("reads").is_none(),
            "another request"
        );
        let bytes = fs::read(&file.path).expect("reads");
        fs::write(&file.path, &bytes[..bytes.len() / 2]).expect("cuts");
        assert!(file.read(&[1, 4, 2, 3, 3]).expect("reads").is_none(), "cut by a kill");
        let absent = LatentFile::new(&folder.path().join("gone"), 7);
        assert!(matches!(absent.write(&Tensor::from(1f32)), Err(PipelineError::Scratch { .. })));
    }
}
