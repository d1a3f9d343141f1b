//! Files of jobs: results appear by rename, scratch folders are kept as long as their job.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use videosdgx_api::JobId;

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

    /// Where attempt `attempt` writes until it is finished.
    pub(crate) fn temporary(&self, job: &JobId, attempt: u32) -> PathBuf {
        self.folder.join(Self::temporary_name(job, attempt))
    }

    fn temporary_name(job: &JobId, attempt: u32) -> String {
        format!(".{job}.{attempt}.part.mp4")
    }

    /// The result's file name. A later attempt has a name of its own, so that a late first one cannot write over it.
    pub(crate) fn file_name(job: &JobId, attempt: u32) -> String {
        if attempt <= 1 { format!("{job}.mp4") } else { format!("{job}.{attempt}.mp4") }
    }

    /// Path of the result named `file_name`. All names passed here were made by [`Outputs::file_name`]: they are stored in
    /// the queue, never taken from a request.
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

    /// Gives a synced temporary file its final name, durably.
    pub(crate) fn publish(&self, temporary: &Path, file_name: &str) -> io::Result<()> {
        fs::rename(temporary, self.folder.join(file_name))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Path of a listed file.
    pub(crate) fn location(&self, file: &OutputFile) -> PathBuf {
        self.folder.join(&file.name)
    }

    /// Removes a listed file.
    pub(crate) fn remove_listed(&self, file: &OutputFile) {
        remove_file(&self.location(file));
    }

    /// Removes a result if it exists.
    pub(crate) fn remove(&self, file_name: &str) {
        if let Some(path) = self.path(file_name) {
            remove_file(&path);
        }
    }

    /// Removes the unfinished file of an attempt.
    pub(crate) fn discard(&self, job: &JobId, attempt: u32) {
        remove_file(&self.temporary(job, attempt));
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

/// A file in the outputs folder whose name this crate made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputFile {
    pub(crate) name: String,
    pub(crate) job: JobId,
    pub(crate) attempt: u32,
    /// Not yet renamed: its attempt is writing it, or was ended by a crash.
    pub(crate) unfinished: bool,
}

impl OutputFile {
    fn parse(name: &str) -> Option<Self> {
        let unfinished = name.starts_with('.');
        let stem = if unfinished {
            name.strip_prefix('.')?.strip_suffix(".part.mp4")?
        } else {
            name.strip_suffix(".mp4")?
        };
        let (job, attempt) = match stem.split_once('.') {
            Some((job, attempt)) => (job, attempt.parse().ok()?),
            None => (stem, 1),
        };
        let job: JobId = job.parse().ok()?;
        // Other spellings of the same attempt (`01`, `+1`) are not ours.
        let ours = if unfinished {
            Outputs::temporary_name(&job, attempt) == name
        } else {
            Outputs::file_name(&job, attempt) == name
        };
        ours.then(|| Self { name: name.to_owned(), job, attempt, unfinished })
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
    use super::*;

    #[test]
    fn names_of_files_say_job_and_attempt() {
        let job: JobId = "wan21-0k3f9a7c21xz".parse().unwrap();
        let outputs = Outputs { folder: "o".into(), scratch: "s".into() };
        for attempt in [1, 2, 17] {
            let file = OutputFile::parse(&Outputs::file_name(&job, attempt)).unwrap();
            assert_eq!((&file.job, file.attempt, file.unfinished), (&job, attempt, false));
            let temporary = outputs.temporary(&job, attempt);
            let file = OutputFile::parse(temporary.file_name().unwrap().to_str().unwrap()).unwrap();
            assert_eq!((&file.job, file.attempt, file.unfinished), (&job, attempt, true));
        }
        for other in [
            "notes.txt",
            ".hidden",
            "x.mp4.bak",
            "A.mp4",
            ".x.part.mp4.1",
            "a.b.c.mp4",
            "a.1.mp4",
            "a.02.mp4",
            ".a.part.mp4",
            ".a.+1.part.mp4",
        ] {
            assert_eq!(OutputFile::parse(other), None, "{other}");
        }
    }

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
        let temporary = outputs.temporary(&job, 1);
        fs::write(&temporary, "").unwrap();
        assert!(Outputs::sync(&temporary).is_err(), "an empty file is no result");
        fs::write(&temporary, "video").unwrap();
        assert_eq!(Outputs::sync(&temporary).unwrap(), 5);
        outputs.publish(&temporary, "fake-1.mp4").unwrap();
        fs::write(outputs.folder.join("fake-2b-1.mp4"), "other service").unwrap();
        fs::write(outputs.folder.join("faker-1.mp4"), "other service").unwrap();
        let files = outputs.files("fake").unwrap();
        assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["fake-1.mp4"]);
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
