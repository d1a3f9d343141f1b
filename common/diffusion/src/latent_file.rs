//! Latents on the disk between denoising and decoding: when decoding fails, the next attempt does not denoise again.

use std::path::{Path, PathBuf};

use videosdgx_tensor::{Checkpoint, Kind, Tensor, TensorError, check_finite, write_f32_tensors};

use crate::PipelineError;

/// Name and shape of one tensor of [`Latents`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatentShape {
    /// Unique within the latents.
    pub name: &'static str,
    /// Size of each dimension.
    pub shape: Vec<i64>,
}

/// The result of denoising: f32 tensors by name.
#[derive(Debug, PartialEq)]
pub struct Latents(Vec<(&'static str, Tensor)>);

impl Latents {
    /// From tensors with different names.
    #[must_use]
    pub fn new(tensors: Vec<(&'static str, Tensor)>) -> Self {
        Self(tensors)
    }

    /// Fails if a tensor contains NaN or infinity.
    pub(crate) fn check_finite(&self) -> Result<(), TensorError> {
        self.0.iter().try_for_each(|(_, tensor)| check_finite(tensor, "the latents after denoising"))
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] when there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor, TensorError> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, tensor)| tensor)
            .ok_or_else(|| TensorError::Libtorch(format!("there are no latents {name}")))
    }
}

/// The file of one request's latents.
pub struct LatentFile {
    path: PathBuf,
}

impl LatentFile {
    /// In `folder`, for the request with this [`fingerprint`](crate::Generation::fingerprint).
    #[must_use]
    pub fn new(folder: &Path, fingerprint: u64) -> Self {
        Self { path: folder.join(format!("latents-{fingerprint:016x}.safetensors")) }
    }

    /// Latents of these shapes that an earlier attempt stored. `None` for a file that is missing, incomplete or of
    /// other shapes.
    ///
    /// # Errors
    /// [`PipelineError::Tensor`] when libtorch fails.
    pub fn read(&self, shapes: &[LatentShape]) -> Result<Option<Latents>, PipelineError> {
        if !self.path.is_file() {
            return Ok(None);
        }
        let read = || -> Result<Option<Latents>, TensorError> {
            let checkpoint = Checkpoint::open_file(&self.path)?;
            let mut tensors = Vec::with_capacity(shapes.len());
            for LatentShape { name, shape } in shapes {
                if checkpoint.entry(name).is_none_or(|entry| entry.shape != *shape) {
                    return Ok(None);
                }
                tensors.push((*name, checkpoint.read(name)?.f_to_kind(Kind::Float)?));
            }
            Ok(Some(Latents(tensors)))
        };
        match read() {
            Ok(latents) => Ok(latents),
            Err(TensorError::Checkpoint(error)) => {
                tracing::warn!(%error, "stored latents are not readable, denoising again");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores `latents`: writes a temporary file, syncs it and renames it.
    ///
    /// # Errors
    /// [`PipelineError::Scratch`].
    pub fn write(&self, latents: &Latents) -> Result<(), PipelineError> {
        write_f32_tensors(&self.path, &latents.0)
            .map_err(|source| PipelineError::Scratch { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use videosdgx_tensor::Device;

    fn shapes(shape: [i64; 5]) -> [LatentShape; 1] {
        [LatentShape { name: "latents", shape: shape.to_vec() }]
    }

    #[test]
    fn latents_are_read_back_unchanged_or_not_at_all() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = LatentFile::new(folder.path(), 7);
        let wanted = shapes([1, 4, 2, 3, 3]);
        let tensor = Tensor::randn([1, 4, 2, 3, 3], (Kind::Float, Device::Cpu));
        assert!(file.read(&wanted).expect("reads").is_none());
        let latents = Latents::new(vec![("latents", tensor)]);
        file.write(&latents).expect("writes");
        assert_eq!(file.read(&wanted).expect("reads"), Some(latents));
        assert!(file.read(&shapes([1, 4, 2, 3, 4])).expect("reads").is_none(), "another size");
        let more = [wanted[0].clone(), LatentShape { name: "audio", shape: vec![1] }];
        assert!(file.read(&more).expect("reads").is_none(), "a tensor is missing");
        assert!(LatentFile::new(folder.path(), 8).read(&wanted).expect("reads").is_none(), "another request");
        let bytes = fs::read(&file.path).expect("reads");
        fs::write(&file.path, &bytes[..bytes.len() / 2]).expect("truncates");
        assert!(file.read(&wanted).expect("reads").is_none(), "truncated by a kill");
        let absent = LatentFile::new(&folder.path().join("gone"), 7);
        let latents = Latents::new(vec![("latents", Tensor::from(1f32))]);
        assert!(matches!(absent.write(&latents), Err(PipelineError::Scratch { .. })));
    }
}
