//! Wan 2.1 as a service's [`Engine`].

use std::path::Path;

use videosdgx_api::{
    GenerateRequest, ModelDescription, OutputFormat, Problem, ResolvedRequest, SchedulerName, Stage,
};
use videosdgx_model::{MemoryProbe, ModelError, SystemMemory};
use videosdgx_mp4::{Mp4Error, VideoFormat, VideoWriter};
use videosdgx_service::{Engine, EngineError, GenerateContext, first_frame, limits};
use videosdgx_tensor::{CheckpointError, Quantization, TensorError, release_code_pages};
use videosdgx_video::vae::Tiling;

use crate::{
    description::describe,
    folder::CheckpointFolder,
    memory::{Estimate, estimate},
    pipeline::{Generation, Options, PipelineError, Progress, Residency, Sampler, WanPipeline},
    settings::Settings,
};

/// The service's name.
pub const NAME: &str = "wan21";

/// Wan 2.1 behind the skeleton of every video service.
pub struct WanEngine {
    settings: Settings,
    memory: SystemMemory,
}

/// A loaded pipeline. When it goes, so does libtorch's code.
pub struct Loaded(WanPipeline);

impl Drop for Loaded {
    fn drop(&mut self) {
        release_code_pages();
    }
}

impl WanEngine {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        release_code_pages();
        Self { settings, memory: SystemMemory::new() }
    }

    fn folder(&self) -> Result<CheckpointFolder, ModelError> {
        CheckpointFolder::open(&self.settings.folder()).map_err(checkpoint_error)
    }

    fn description(&self, folder: &CheckpointFolder) -> ModelDescription {
        let Settings { device, kind, quantization, .. } = self.settings;
        describe(NAME, folder, device, kind, quantization)
    }

    /// What the checkpoint's default video takes.
    fn estimate(&self, folder: &CheckpointFolder) -> Estimate {
        let Settings { kind, quantization, .. } = self.settings;
        let model = self.description(folder);
        estimate(folder, kind, quantization, model.default_resolution, model.default_num_frames)
    }

    /// Everything in memory when it fits into what is there now, else one half after the other.
    fn residency(&self, estimate: &Estimate) -> Residency {
        match self.memory.memory() {
            Some(memory) if memory.available < estimate.resident_peak() => Residency::Staged,
            _ => Residency::Whole,
        }
    }
}

impl Engine for WanEngine {
    type Model = Loaded;

    fn describe(&self) -> Result<ModelDescription, ModelError> {
        Ok(self.description(&self.folder()?))
    }

    fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Problem> {
        let folder = self.folder()?;
        let mut resolved = limits::resolve(request, &self.description(&folder))?;
        if let Some(manifest) = &folder.manifest {
            let mut unknown = manifest.vocabulary.unknown(&resolved.prompt);
            unknown.extend(manifest.vocabulary.unknown(&resolved.negative_prompt));
            if !unknown.is_empty() {
                resolved.warnings.push(format!(
                    "the demonstration checkpoint {} does not know these words and ignores them: {}; it knows: {}",
                    folder.name,
                    unknown.join(", "),
                    manifest.vocabulary.words().join(", ")
                ));
            }
        }
        Ok(resolved)
    }

    fn declared_peak(&self) -> Result<u64, ModelError> {
        let estimate = self.estimate(&self.folder()?);
        Ok(match self.residency(&estimate) {
            Residency::Whole => estimate.resident_peak(),
            Residency::Staged => estimate.tight_peak(),
        })
    }

    fn load(&self) -> Result<Loaded, ModelError> {
        let folder = self.folder()?;
        let Settings { device, kind, quantization, .. } = self.settings;
        let residency = self.residency(&self.estimate(&folder));
        let options = Options {
            quantization,
            // The encoder runs once a prompt and its size is paid for by staging when memory is short: it stays exact.
            text_quantization: Quantization::None,
            residency,
            tiling: (residency == Residency::Staged).then(Tiling::default),
            ..Options::new(device, kind)
        };
        let pipeline = WanPipeline::load(&folder.path, options).map_err(model_error)?;
        tracing::info!(
            checkpoint = folder.name,
            ?residency,
            resident_mb = pipeline.resident_bytes() / 1_000_000,
            transformer_mb = pipeline.transformer_bytes() / 1_000_000,
            "pipeline_loaded"
        );
        Ok(Loaded(pipeline))
    }

    fn generate(
        &self,
        model: &mut Loaded,
        job: &ResolvedRequest,
        context: &GenerateContext,
    ) -> Result<(), EngineError> {
        let generation = generation(job)?;
        let mut writer = VideoWriter::create(context.output_path(), video_format(job)).map_err(Stop::from)?;
        let summary = model.0.generate::<Stop>(
            &generation,
            Some(context.scratch_dir()),
            |progress| {
                match progress {
                    Progress::Encoding => context.progress(Stage::Encoding, 0, 1),
                    Progress::Denoising { done, steps } => context.progress(Stage::Denoising, done, steps),
                    Progress::Decoding { done, frames } => context.progress(Stage::Decoding, done, frames),
                }
                context.check_cancelled().map_err(|_| Stop(EngineError::Cancelled))
            },
            |frame| writer.push_frame(frame).map_err(Stop::from),
        )?;
        if summary.truncated {
            tracing::warn!(job_id = %context.job_id(), "prompt_truncated");
        }
        writer.finish().map_err(Stop::from)?;
        Ok(())
    }
}

fn generation(job: &ResolvedRequest) -> Result<Generation, EngineError> {
    Ok(Generation {
        prompt: job.prompt.clone(),
        negative_prompt: job.negative_prompt.clone(),
        first_frame: job
            .image
            .as_deref()
            .map(first_frame::decode)
            .transpose()
            .map_err(EngineError::InvalidInput)?,
        width: job.resolution.width,
        height: job.resolution.height,
        frames: job.num_frames,
        steps: job.steps,
        guidance: job.guidance_scale,
        seed: job.seed,
        sampler: Some(match job.scheduler {
            SchedulerName::Unipc => Sampler::UniPc,
            SchedulerName::Euler => Sampler::Euler,
        }),
        shift: None,
    })
}

fn video_format(job: &ResolvedRequest) -> VideoFormat {
    let (width, height) = (job.resolution.width, job.resolution.height);
    match job.format {
        OutputFormat::H264 => VideoFormat::h264(width, height, job.fps),
        OutputFormat::Av1 => VideoFormat::av1(width, height, job.fps),
    }
}

/// What ends a generation, in the skeleton's terms.
struct Stop(EngineError);

impl From<Stop> for EngineError {
    fn from(stop: Stop) -> Self {
        stop.0
    }
}

impl From<PipelineError> for Stop {
    fn from(error: PipelineError) -> Self {
        Self(engine_error(error))
    }
}

impl From<Mp4Error> for Stop {
    fn from(error: Mp4Error) -> Self {
        Self(EngineError::failed(error))
    }
}

fn engine_error(error: PipelineError) -> EngineError {
    match error {
        PipelineError::Input { field, reason } => EngineError::InvalidInput(Problem::field(field, reason)),
        other => model_error(other).into(),
    }
}

fn model_error(error: PipelineError) -> ModelError {
    match error {
        PipelineError::Tensor(TensorError::Checkpoint(error)) => checkpoint_error(error),
        PipelineError::Tensor(TensorError::OutOfMemory(detail)) => ModelError::OutOfMemory(detail),
        other => ModelError::failed(other),
    }
}

fn checkpoint_error(error: CheckpointError) -> ModelError {
    match error {
        CheckpointError::Missing { path } => ModelError::CheckpointMissing { hint: hint(&path), path },
        CheckpointError::Invalid { file, reason, .. } => ModelError::CheckpointInvalid { file, reason },
    }
}

fn hint(path: &Path) -> String {
    let preset =
        videosdgx_manifest::service(NAME).map_or("--list", |service| service.default_preset.as_str());
    format!(
        "fetch one with `videosdgx pull {preset}`, or point VIDEOSDGX_CHECKPOINT at a folder with {}",
        path.file_name().map_or_else(|| "model_index.json".into(), |name| name.to_string_lossy())
    )
}
