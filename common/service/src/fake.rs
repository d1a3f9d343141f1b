//! An engine without a model, for tests of the service. The prompt selects its behaviour.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use videosdgx_api::{
    FrameRule, GenerateRequest, Lora, LoraLayout, MAX_LORAS, ModelDescription, ModelLimits, OutputFormat,
    Problem, Resolution, ResolvedRequest, SchedulerName, Stage, Support,
};
use videosdgx_model::ModelError;

use videosdgx_picture::{Picture, PictureFormat};

use crate::{Engine, EngineError, GenerateContext, Previews, limits, write_picture};

/// Makes a small file (MP4 boxes without a track, or a grey picture) in a fifth of a second. The prompt's first word can make it `abort` the
/// process, `panic`, `fail`, be `invalid`, compute NaN (`nan`), run out of memory (`oom`), find the disk `full` or `readonly`,
/// have its GPU fail (`device`), take longer (`slow 30` seconds), or take longer and ignore cancellation (`stubborn 30`). Any other prompt succeeds.
///
/// The file `name` of its checkpoint, if there is one, has the checkpoint's name; one called `small` has other defaults and limits.
#[derive(Debug, Clone)]
pub struct FakeEngine {
    /// Time of an ordinary job.
    pub job_time: Duration,
    /// Time of a load.
    pub load_time: Duration,
    /// Bytes that it declares to need.
    pub declared_peak: u64,
    /// Must exist when set; a file `broken` in it makes loads fail, a file `name` has its name.
    pub checkpoint: Option<PathBuf>,
    /// Limits of requests.
    pub limits: ModelLimits,
    /// LoRAs that requests can name; a job changes nothing with them.
    pub loras: Vec<Lora>,
    /// Loads so far.
    pub loads: Arc<AtomicU64>,
    /// Whether the disk that `full` and `readonly` find in that state has been put right.
    pub disk_is_mended: Arc<AtomicBool>,
}

/// What [`FakeEngine`] loads.
#[derive(Debug)]
pub struct FakeModel {
    checkpoint: String,
    _weights: Vec<u8>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self {
            job_time: Duration::from_millis(200),
            load_time: Duration::from_millis(50),
            declared_peak: 1 << 20,
            checkpoint: None,
            limits: ModelLimits {
                size_multiple: 16,
                min_side: 16,
                max_side: 1024,
                frame_rule: FrameRule { step: 4, offset: 1 },
                max_frames: 241,
                max_pixels: 1024 * 1024 * 81,
                max_steps: 200,
                max_prompt_characters: 1000,
                max_duration_seconds: 60,
                image: Support::Unsupported,
                last_image: Support::Unsupported,
                audio: Support::Unsupported,
                audio_input: Support::Unsupported,
                guidances: Support::Unsupported,
                upscale: Support::Unsupported,
                max_loras: MAX_LORAS,
                schedulers: SchedulerName::ALL.to_vec(),
                formats: OutputFormat::ALL.to_vec(),
            },
            loras: vec![sketch()],
            loads: Arc::default(),
            disk_is_mended: Arc::default(),
        }
    }
}

impl Engine for FakeEngine {
    type Model = FakeModel;

    fn describe(&self) -> Result<ModelDescription, ModelError> {
        if let Some(path) = self.checkpoint.clone().filter(|path| !path.exists()) {
            return Err(ModelError::CheckpointMissing { path, hint: "make the folder".to_owned() });
        }
        let checkpoint = self.name();
        let mut limits = self.limits.clone();
        let is_small = checkpoint == "small";
        if is_small {
            limits.max_side = 64;
        }
        Ok(ModelDescription {
            name: "fake".to_owned(),
            fingerprint: format!("fingerprint of {checkpoint}"),
            checkpoint,
            architecture: "FakePipeline".to_owned(),
            demonstration: true,
            tasks: vec!["text-to-video".to_owned()],
            device: "cpu".to_owned(),
            device_reason: "as configured".to_owned(),
            dtype: "f32".to_owned(),
            quantization: "none".to_owned(),
            parameters: 0,
            default_resolution: Resolution { width: 64, height: 64 },
            default_num_frames: 17,
            default_fps: 8,
            default_steps: if is_small { 4 } else { 10 },
            default_guidance_scale: 3.0,
            default_scheduler: SchedulerName::Unipc,
            default_format: OutputFormat::H264,
            example_prompt: "anything".to_owned(),
            limits,
        })
    }

    fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Problem> {
        let mut resolved = limits::resolve(request, &self.describe()?)?;
        for (index, choice) in resolved.settings.loras.iter().enumerate() {
            if self.loras.iter().all(|lora| lora.name != choice.name) {
                let detail = format!("there is no LoRA {}", choice.name);
                return Err(Problem::field(format!("loras[{index}].name"), detail));
            }
        }
        if resolved.settings.prompt.starts_with("warn") {
            resolved.warnings.push("\"warn\" is not in the vocabulary".to_owned());
        }
        Ok(resolved)
    }

    fn loras(&self) -> Result<Vec<Lora>, ModelError> {
        self.describe()?;
        Ok(self.loras.clone())
    }

    fn declared_peak(&self) -> Result<u64, ModelError> {
        self.describe()?;
        Ok(self.declared_peak)
    }

    fn load(&self) -> Result<FakeModel, ModelError> {
        self.describe()?;
        pause(self.load_time);
        if let Some(file) =
            self.checkpoint.as_ref().map(|path| path.join("broken")).filter(|file| file.exists())
        {
            return Err(ModelError::CheckpointInvalid { file, reason: "it says so itself".to_owned() });
        }
        self.loads.fetch_add(1, Ordering::Relaxed);
        Ok(FakeModel { checkpoint: self.name(), _weights: vec![1; 1 << 20] })
    }

    fn fingerprint(&self, model: &FakeModel) -> String {
        format!("fingerprint of {}", model.checkpoint)
    }

    fn generate(
        &self,
        model: &mut FakeModel,
        job: &ResolvedRequest,
        context: &GenerateContext,
    ) -> Result<(), EngineError> {
        context.progress(Stage::Encoding, 0, 1);
        context.check_cancelled()?;
        let mut words = job.settings.prompt.split_whitespace();
        let word = words.next().unwrap_or_default();
        let seconds = words.next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
        let time = match word {
            "abort" => std::process::abort(),
            "panic" => return Err(bug()),
            "fail" => return Err(EngineError::failed("the prompt said so")),
            "invalid" => {
                return Err(EngineError::InvalidInput(Problem::field("prompt", "the prompt said so")));
            }
            "oom" => return Err(ModelError::OutOfMemory("the prompt said so".to_owned()).into()),
            "nan" => return Err(EngineError::Numerical("the prompt said so".to_owned())),
            "device" => {
                return Err(ModelError::DeviceFailed("CUDA error: the prompt said so".to_owned()).into());
            }
            "full" => {
                self.write_to_disk(ErrorKind::StorageFull)?;
                self.job_time
            }
            "readonly" => {
                self.write_to_disk(ErrorKind::ReadOnlyFilesystem)?;
                self.job_time
            }
            "slow" | "stubborn" => Duration::try_from_secs_f64(seconds).unwrap_or(self.job_time),
            _ => self.job_time,
        };
        context.progress(Stage::Encoding, 1, 1);
        denoise(job, context, time, word == "stubborn")?;
        context.progress(Stage::Decoding, 0, 1);
        write(model, job, context)?;
        context.progress(Stage::Decoding, 1, 1);
        Ok(())
    }
}

fn sketch() -> Lora {
    Lora {
        name: "sketch".to_owned(),
        bytes: 4096,
        keys: 8,
        fitting_keys: 8,
        layers: 4,
        ranks: vec![4, 16],
        layout: Some(LoraLayout::Comfy),
        trigger: Some("in pencil".to_owned()),
        title: None,
        error: None,
    }
}

impl FakeEngine {
    fn name(&self) -> String {
        let name =
            self.checkpoint.as_ref().and_then(|folder| std::fs::read_to_string(folder.join("name")).ok());
        name.unwrap_or_else(|| "fake".to_owned())
    }

    fn write_to_disk(&self, fault: ErrorKind) -> std::io::Result<()> {
        if self.disk_is_mended.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(std::io::Error::new(fault, "the prompt said so"))
    }
}

#[expect(clippy::panic, reason = "this is what the prompt asked for")]
fn bug() -> EngineError {
    panic!("the prompt said so")
}

#[expect(clippy::disallowed_methods, reason = "stands for work of the inference thread")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// `steps` equal steps of a total of `time`; cancellation is seen within 20 ms unless it is `deaf`.
fn denoise(
    job: &ResolvedRequest,
    context: &GenerateContext,
    time: Duration,
    deaf: bool,
) -> Result<(), EngineError> {
    let began = Instant::now();
    for step in 1..=job.settings.steps {
        let until = began + time * step / job.settings.steps;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            pause(left.min(Duration::from_millis(20)));
            if !deaf {
                context.check_cancelled()?;
            }
        }
        context.progress(Stage::Denoising, step, job.settings.steps);
    }
    Ok(())
}

/// The file and its previews.
fn write(model: &FakeModel, job: &ResolvedRequest, context: &GenerateContext) -> Result<(), EngineError> {
    let settings = &job.settings;
    let Resolution { width, height } = settings.resolution;
    let mut previews = Previews::new(width, height, settings.num_frames);
    let mut frame = vec![0; width as usize * height as usize * 3];
    for index in 0..settings.num_frames {
        frame.fill((index % 256) as u8);
        previews.push(&frame);
    }
    previews.write(context)?;
    let format = match settings.format {
        OutputFormat::H264 | OutputFormat::Av1 => return write_boxes(model, job, context),
        OutputFormat::Png => PictureFormat::Png,
        OutputFormat::Webp => PictureFormat::WebP,
    };
    let picture = Picture::new(width as usize, height as usize, frame)
        .ok_or_else(|| EngineError::failed("the frame has no pixels"))?;
    Ok(write_picture(&picture, format, context.output_path())?)
}

/// `ftyp`, `moov` with only an `mvhd`, and an `mdat` that checkpoint, seed, steps and prompt determine.
fn write_boxes(
    model: &FakeModel,
    job: &ResolvedRequest,
    context: &GenerateContext,
) -> Result<(), EngineError> {
    let mut file = File::create(context.output_path())?;
    let settings = &job.settings;
    let made = format!("{} {} {} {} ", settings.seed, settings.prompt, model.checkpoint, settings.steps);
    let mut media = made.into_bytes();
    if let Some(image) = &job.settings.image {
        media.extend_from_slice(image.as_bytes());
    }
    let filler = (0_u8..=255).cycle().take(4096_usize.saturating_sub(media.len()));
    media.extend(filler);
    file.write_all(&mp4_box(b"ftyp", b"isom\0\0\x02\0isomiso2mp41"))?;
    file.write_all(&mp4_box(b"moov", &mp4_box(b"mvhd", &movie_header())))?;
    file.write_all(&mp4_box(b"mdat", &media))?;
    Ok(())
}

fn mp4_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 8).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), kind.as_slice(), content].concat()
}

/// Version 0: a timescale of 1000, no duration, the identity matrix, next track 1.
fn movie_header() -> Vec<u8> {
    let mut header = vec![0; 100];
    header[14] = 0x03;
    header[15] = 0xE8;
    header[21] = 1;
    header[24] = 1;
    for (at, value) in [(36, 0x0001_0000_u32), (52, 0x0001_0000), (68, 0x4000_0000), (96, 1)] {
        header[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    header
}
