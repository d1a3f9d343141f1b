//! The files of a job while they are made: a video or a picture, and the previews.

use std::path::PathBuf;

use videosdgx_api::{AudioFormat, OutputFormat, ResolvedRequest};
use videosdgx_mp4::{SoundCodec, VideoFormat, VideoWriter};
use videosdgx_picture::{Picture, PictureFormat};
use videosdgx_service::{GenerateContext, Previews, write_picture};
use videosdgx_sound::Sound;

use crate::PipelineError;

/// Takes the frames of one job and writes its files.
pub(crate) struct Output {
    file: OutputFile,
    previews: Previews,
}

enum OutputFile {
    Video(Box<VideoWriter>),
    /// A picture file of the last frame that was pushed.
    Picture {
        format: PictureFormat,
        path: PathBuf,
        width: usize,
        height: usize,
        frame: Vec<u8>,
    },
}

impl Output {
    /// Creates the job's file, replacing an existing one.
    pub(crate) fn create(job: &ResolvedRequest, context: &GenerateContext) -> Result<Self, PipelineError> {
        let settings = &job.settings;
        let (width, height) = (settings.resolution.width, settings.resolution.height);
        let path = context.output_path();
        let picture = |format| OutputFile::Picture {
            format,
            path: path.to_owned(),
            width: width as usize,
            height: height as usize,
            frame: Vec::new(),
        };
        let video =
            |format| VideoWriter::create(path, format).map(|writer| OutputFile::Video(Box::new(writer)));
        let file = match settings.format {
            OutputFormat::H264 => video(VideoFormat::h264(width, height, settings.fps))?,
            OutputFormat::Av1 => video(VideoFormat::av1(width, height, settings.fps))?,
            OutputFormat::Png => picture(PictureFormat::Png),
            OutputFormat::Webp => picture(PictureFormat::WebP),
        };
        Ok(Self { file, previews: Previews::new(width, height, settings.num_frames) })
    }

    /// Takes the next frame, `width · height · 3` bytes of RGB.
    pub(crate) fn push(&mut self, rgb: &[u8]) -> Result<(), PipelineError> {
        self.previews.push(rgb);
        match &mut self.file {
            OutputFile::Video(writer) => writer.push_frame(rgb)?,
            OutputFile::Picture { frame, .. } => rgb.clone_into(frame),
        }
        Ok(())
    }

    /// Completes the files. The sound, which pictures do not have, is cut to the length of the video.
    pub(crate) fn finish(
        self,
        sound: Option<Sound>,
        job: &ResolvedRequest,
        context: &GenerateContext,
    ) -> Result<(), PipelineError> {
        let written = |path: &std::path::Path, result: std::io::Result<()>| {
            result.map_err(|source| PipelineError::Output { path: path.to_owned(), source })
        };
        match self.file {
            OutputFile::Video(mut writer) => {
                if let Some(sound) = sound {
                    let sound = sound.cut_to(job.settings.duration());
                    writer.add_sound(sound_codec(job), sound.rate(), sound.samples())?;
                }
                writer.finish()?;
            }
            OutputFile::Picture { format, path, width, height, frame } => {
                let picture = Picture::new(width, height, frame).ok_or(videosdgx_mp4::Mp4Error::Empty)?;
                written(&path, write_picture(&picture, format, &path))?;
            }
        }
        written(&context.thumbnail_path(), self.previews.write(context))
    }
}

fn sound_codec(job: &ResolvedRequest) -> SoundCodec {
    match job.settings.audio_format.unwrap_or_default() {
        AudioFormat::Opus => SoundCodec::Opus,
        AudioFormat::Flac => SoundCodec::Flac,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use videosdgx_mp4::{SoundReader, VideoReader};
    use videosdgx_picture::{Background, DecodeLimits, decode};
    use videosdgx_service::Interrupt;

    use super::*;

    fn job(format: &str, frames: u32) -> ResolvedRequest {
        serde_json::from_value(json!({
            "prompt": "a", "negative_prompt": "", "resolution": "64x48", "num_frames": frames, "fps": 8, "steps": 20,
            "guidance_scale": 3.0, "seed": 1, "format": format, "scheduler": "unipc", "checkpoint": "tiny",
            "audio": true, "audio_format": "flac",
        }))
        .expect("a job")
    }

    fn written(job: &ResolvedRequest, folder: &std::path::Path, sound: Option<Sound>) -> GenerateContext {
        let id = "fake-1".parse().expect("an id");
        let context =
            GenerateContext::new(id, 1, folder.join("out.mp4"), folder, Interrupt::default(), |_, _, _| {});
        let mut output = Output::create(job, &context).expect("creates");
        for index in 0..job.settings.num_frames {
            output.push(&vec![(index * 9) as u8; 64 * 48 * 3]).expect("takes a frame");
        }
        output.finish(sound, job, &context).expect("finishes");
        context
    }

    #[test]
    fn videos_have_sound_no_longer_than_their_picture_and_previews() {
        let folder = tempfile::tempdir().expect("a folder");
        let sound = Sound::new(8_000, vec![vec![0.25; 16_000]]);
        let context = written(&job("h264", 9), folder.path(), sound);
        assert_eq!(VideoReader::open(context.output_path()).expect("a video").frames(), 9);
        let sound = SoundReader::open(context.output_path()).expect("sound").decode(3.0).expect("decodes");
        assert_eq!((sound.rate, sound.samples[0].len()), (8_000, 9_000));
        for (path, width, height) in
            [(context.thumbnail_path(), 64, 48), (context.spritesheet_path(), 5 * 64, 2 * 48)]
        {
            let file = std::fs::read(path).expect("a preview");
            let picture = decode(&file, &DecodeLimits::DEFAULT, Background::Black).expect("decodes");
            assert_eq!((picture.width(), picture.height()), (width, height));
        }
    }

    #[test]
    fn pictures_are_files_of_the_only_frame() {
        for format in ["png", "webp"] {
            let folder = tempfile::tempdir().expect("a folder");
            let context = written(&job(format, 1), folder.path(), None);
            let file = std::fs::read(context.output_path()).expect("a file");
            let picture = decode(&file, &DecodeLimits::DEFAULT, Background::Black).expect("decodes");
            assert_eq!((picture.width(), picture.height(), picture.pixels()[0]), (64, 48, 0), "{format}");
            assert!(context.thumbnail_path().is_file() && context.spritesheet_path().is_file());
        }
    }
}
