//! Names of the files in the outputs folder, all made and read here.

use videosdgx_api::{JobId, OutputFormat};

/// One of the files of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// The result.
    Result(OutputFormat),
    /// A small WebP picture of a frame.
    Thumbnail,
    /// A JPEG picture of many small frames.
    Spritesheet,
}

impl FileKind {
    /// Pictures of the result, which are kept as long as it.
    pub(crate) const PREVIEWS: [Self; 2] = [Self::Thumbnail, Self::Spritesheet];

    /// Every kind; the name of an earlier one may end like that of a later one. `H264` stands for every MP4 file.
    pub(crate) const ALL: [Self; 5] = [
        Self::Thumbnail,
        Self::Spritesheet,
        Self::Result(OutputFormat::H264),
        Self::Result(OutputFormat::Png),
        Self::Result(OutputFormat::Webp),
    ];

    /// How the file's name ends, without the first dot.
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Result(format) => format.extension(),
            Self::Thumbnail => "thumbnail.webp",
            Self::Spritesheet => "spritesheet.jpg",
        }
    }

    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Result(OutputFormat::H264 | OutputFormat::Av1) => "video/mp4",
            Self::Result(OutputFormat::Png) => "image/png",
            Self::Result(OutputFormat::Webp) | Self::Thumbnail => "image/webp",
            Self::Spritesheet => "image/jpeg",
        }
    }

    const fn is_preview(self) -> bool {
        matches!(self, Self::Thumbnail | Self::Spritesheet)
    }
}

/// A file of one attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputFile {
    pub(crate) job: JobId,
    pub(crate) attempt: u32,
    pub(crate) kind: FileKind,
    /// Not yet renamed: its attempt is writing it, or was ended by a crash.
    pub(crate) unfinished: bool,
}

impl OutputFile {
    pub(crate) fn finished(job: &JobId, attempt: u32, kind: FileKind) -> Self {
        Self { job: job.clone(), attempt, kind, unfinished: false }
    }

    pub(crate) fn unfinished(job: &JobId, attempt: u32, kind: FileKind) -> Self {
        Self { unfinished: true, ..Self::finished(job, attempt, kind) }
    }

    /// The file's name. A later attempt has a name of its own, so that a late first one cannot write over it.
    pub(crate) fn name(&self) -> String {
        let Self { job, attempt, kind, unfinished } = self;
        let extension = kind.extension();
        match (unfinished, attempt) {
            (true, _) => format!(".{job}.{attempt}.part.{extension}"),
            (false, 0 | 1) => format!("{job}.{extension}"),
            (false, _) => format!("{job}.{attempt}.{extension}"),
        }
    }

    /// The file with this name; `None` when [`OutputFile::name`] does not make it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let unfinished = name.starts_with('.');
        let kind = FileKind::ALL
            .into_iter()
            .find(|kind| name.strip_suffix(kind.extension()).is_some_and(|stem| stem.ends_with('.')))?;
        let mut stem = name.strip_suffix(kind.extension())?.strip_suffix('.')?;
        if unfinished {
            stem = stem.strip_prefix('.')?.strip_suffix(".part")?;
        }
        let (job, attempt) = match stem.split_once('.') {
            Some((job, attempt)) => (job, attempt.parse().ok()?),
            None => (stem, 1),
        };
        let file = Self { job: job.parse().ok()?, attempt, kind, unfinished };
        // Other spellings of the same attempt (`01`, `+1`) are not ours.
        (file.name() == name).then_some(file)
    }

    /// Whether the file is the result named `result`, or a preview of it.
    pub(crate) fn belongs_to(&self, result: &str) -> bool {
        let of_result = Self::parse(result)
            .is_some_and(|result| (&result.job, result.attempt) == (&self.job, self.attempt));
        !self.unfinished && of_result && (self.kind.is_preview() || self.name() == result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_say_job_attempt_and_kind() {
        let job: JobId = "wan21-0k3f9a7c21xz".parse().unwrap();
        for attempt in [1, 2, 17] {
            for kind in FileKind::ALL {
                for file in
                    [OutputFile::finished(&job, attempt, kind), OutputFile::unfinished(&job, attempt, kind)]
                {
                    assert_eq!(OutputFile::parse(&file.name()), Some(file.clone()), "{}", file.name());
                }
            }
        }
        assert_eq!(
            OutputFile::finished(&job, 1, FileKind::Thumbnail).name(),
            format!("{job}.thumbnail.webp")
        );
        let av1 = OutputFile::finished(&job, 2, FileKind::Result(OutputFormat::Av1));
        assert_eq!(av1.name(), format!("{job}.2.mp4"));
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
            "a.jpg",
            "amp4",
            "a.thumbnail.jpg",
        ] {
            assert_eq!(OutputFile::parse(other), None, "{other}");
        }
    }

    #[test]
    fn previews_belong_to_the_result_of_their_attempt() {
        let job: JobId = "wan21-1".parse().unwrap();
        let thumbnail = |attempt| OutputFile::finished(&job, attempt, FileKind::Thumbnail);
        assert!(thumbnail(1).belongs_to("wan21-1.mp4") && thumbnail(2).belongs_to("wan21-1.2.png"));
        assert!(!thumbnail(1).belongs_to("wan21-1.2.mp4") && !thumbnail(1).belongs_to("wan21-2.mp4"));
        let result = OutputFile::finished(&job, 1, FileKind::Result(OutputFormat::Png));
        assert!(result.belongs_to("wan21-1.png") && !result.belongs_to("wan21-1.mp4"));
        assert!(!OutputFile::unfinished(&job, 1, FileKind::Thumbnail).belongs_to("wan21-1.mp4"));
    }
}
