//! Files of jobs: results appear by rename, scratch folders are kept as long as their job.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use videosdgx_api::JobId;

use crate::output_file::{FileKind, OutputFile};

/// Bytes that must be free before an attempt begins.
const LEAST_ROOM: usize = 1 << 20;

/// The outputs folder and the scratch folders.
#[derive(Debug, Clone)]
pub(crate) struct Outputs {
    folder: PathBuf,
    scratch: PathBuf,
}

impl Outputs {
    /// Creates both folders.
    pub(crate) fn open(outputs_dir: &Path, state_dir: &Path) -> io::Result<Self> {
        let scratch = state_dir.join("scratch");
        for folder in [outputs_dir, &scratch] {
            fs::create_dir_all(folder).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot make {}: {error}", folder.display()))
            })?;
        }
        Ok(Self { folder: outputs_dir.to_owned(), scratch })
    }

    /// Where attempt `attempt` writes a file until it is finished.
    pub(crate) fn temporary(&self, job: &JobId, attempt: u32, kind: FileKind) -> PathBuf {
        self.folder.join(OutputFile::unfinished(job, attempt, kind).name())
    }

    /// Path of the file named `file_name`. All names passed here were made by [`OutputFile::name`]: they are stored in the queue,
    /// never taken from a request.
    pub(crate) fn path(&self, file_name: &str) -> Option<PathBuf> {
        let sound = !file_name.is_empty() && !file_name.starts_with('.') && !file_name.contains(['/', '\0']);
        sound.then(|| self.folder.join(file_name))
    }

    /// Syncs a finished temporary file; its size in bytes.
    pub(crate) fn sync(temporary: &Path) -> io::Result<u64> {
        let file = File::open(temporary)?;
        let bytes = file.metadata()?.len();
        if bytes == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the engine wrote an empty file"));
        }
        file.sync_all()?;
        Ok(bytes)
    }

    /// Fails when the disks of the outputs or of the scratch folders are full or read-only, before anything is computed. Leaves
    /// nothing behind.
    pub(crate) fn check_room(temporary: &Path, scratch: &Path) -> io::Result<()> {
        let in_scratch = scratch.join("room");
        for file in [temporary, in_scratch.as_path()] {
            let written = fs::write(file, vec![0; LEAST_ROOM]);
            remove_file(file);
            written?;
        }
        Ok(())
    }

    /// Gives the files of an attempt their final names, durably: the previews, where the engine wrote them, and then the result.
    pub(crate) fn publish(&self, temporary: &Path, result: &OutputFile) -> io::Result<()> {
        for kind in FileKind::PREVIEWS {
            let preview = self.temporary(&result.job, result.attempt, kind);
            if preview.is_file() {
                Self::sync(&preview)?;
                let name = OutputFile::finished(&result.job, result.attempt, kind).name();
                fs::rename(preview, self.folder.join(name))?;
            }
        }
        fs::rename(temporary, self.folder.join(result.name()))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Path of a listed file.
    pub(crate) fn location(&self, file: &OutputFile) -> PathBuf {
        self.folder.join(file.name())
    }

    /// Removes a listed file.
    pub(crate) fn remove_listed(&self, file: &OutputFile) {
        remove_file(&self.location(file));
    }

    /// Removes a result and its previews, if they exist.
    pub(crate) fn remove(&self, file_name: &str) {
        if let Some(path) = self.path(file_name) {
            remove_file(&path);
        }
        if let Some(result) = OutputFile::parse(file_name) {
            for kind in FileKind::PREVIEWS {
                self.remove_listed(&OutputFile::finished(&result.job, result.attempt, kind));
            }
        }
    }

    /// Removes the unfinished files of an attempt.
    pub(crate) fn discard(&self, job: &JobId, attempt: u32) {
        for kind in FileKind::ALL {
            remove_file(&self.temporary(job, attempt, kind));
        }
    }

    /// The job's scratch folder, made if needed.
    pub(crate) fn scratch(&self, job: &JobId) -> io::Result<PathBuf> {
        let folder = self.scratch.join(job.as_str());
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Removes the job's scratch folder.
    pub(crate) fn remove_scratch(&self, job: &JobId) {
        let folder = self.scratch.join(job.as_str());
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %folder.display(), %error, "scratch_not_removed");
        }
    }

    /// The jobs that have scratch folders.
    pub(crate) fn scratch_jobs(&self) -> io::Result<Vec<JobId>> {
        let mut jobs = Vec::new();
        for entry in fs::read_dir(&self.scratch)? {
            if let Some(job) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
                jobs.push(job);
            }
        }
        Ok(jobs)
    }

    /// Results and unfinished files of the service `service`. Several services may share one outputs folder.
    pub(crate) fn files(&self, service: &str) -> io::Result<Vec<OutputFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            if let Some(file) = name.to_str().and_then(OutputFile::parse)
                && file
                    .job
                    .as_str()
                    .strip_prefix(service)
                    .is_some_and(|rest| rest.starts_with('-') && !rest[1..].contains('-'))
            {
                files.push(file);
            }
        }
        Ok(files)
    }
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "file_not_removed");
    }
}

#[cfg(test)]
mod tests {
    use videosdgx_api::OutputFormat;

    use super::*;

    #[test]
    fn no_name_leaves_the_folder() {
        let outputs = Outputs { folder: "o".into(), scratch: "s".into() };
        for name in ["", "..", "../x", "/etc/passwd", "a/b", ".x", "a\0"] {
            assert_eq!(outputs.path(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_result_appears_whole_and_other_services_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(&folder.path().join("out"), folder.path()).unwrap();
        let job: JobId = "fake-1".parse().unwrap();
        let kind = FileKind::Result(OutputFormat::H264);
        let temporary = outputs.temporary(&job, 1, kind);
        fs::write(&temporary, "").unwrap();
        assert!(Outputs::sync(&temporary).is_err(), "an empty file is no result");
        fs::write(&temporary, "video").unwrap();
        assert_eq!(Outputs::sync(&temporary).unwrap(), 5);
        fs::write(outputs.temporary(&job, 1, FileKind::Thumbnail), "picture").unwrap();
        outputs.publish(&temporary, &OutputFile::finished(&job, 1, kind)).unwrap();
        fs::write(outputs.folder.join("fake-2b-1.mp4"), "other service").unwrap();
        fs::write(outputs.folder.join("faker-1.mp4"), "other service").unwrap();
        let files = outputs.files("fake").unwrap();
        let mut names: Vec<String> = files.iter().map(OutputFile::name).collect();
        names.sort();
        assert_eq!(names, ["fake-1.mp4", "fake-1.thumbnail.webp"]);
        outputs.remove("fake-1.mp4");
        assert!(outputs.files("fake").unwrap().is_empty());
    }

    #[test]
    fn scratch_folders_are_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(&folder.path().join("out"), folder.path()).unwrap();
        let job: JobId = "fake-1".parse().unwrap();
        fs::write(outputs.scratch(&job).unwrap().join("latents"), "x").unwrap();
        assert_eq!(outputs.scratch_jobs().unwrap(), std::slice::from_ref(&job));
        outputs.remove_scratch(&job);
        outputs.remove_scratch(&job);
        assert!(outputs.scratch_jobs().unwrap().is_empty());
    }
}
