//! A model family as a video service's [`Engine`].

use std::marker::PhantomData;
use std::path::Path;
use std::process::ExitCode;

use videosdgx_api::{GenerateRequest, Lora, ModelDescription, Problem, ResolvedRequest, Stage};
use videosdgx_model::{MemoryProbe, ModelError, SystemMemory};
use videosdgx_mp4::Mp4Error;
use videosdgx_service::{Engine, EngineError, GenerateContext, is_storage_shortage, limits};
use videosdgx_tensor::{
    CheckpointError, Kind, Quantization, TensorError, release_code_pages, release_memory,
};

use crate::output::Output;
use crate::pipeline::generate;
use crate::{
    CheckpointFolder, CheckpointLayers, ChosenLora, DiffusionModel, Generation, LoraCatalog, LoraFault,
    MemoryEstimate, Pipeline, PipelineError, PipelineOptions, Progress, Residency, Settings, WithLoras,
};

/// The program of the service [`DiffusionModel::NAME`]: configuration from the environment, then
/// [`videosdgx_service::main`].
pub fn main<M: DiffusionModel>() -> ExitCode {
    videosdgx_tensor::use_passive_waiting();
    videosdgx_service::main(M::NAME, |config| {
        Settings::from_config(config).map(DiffusionEngine::<M>::new).map_err(|error| error.to_string())
    })
}

/// Serves the model family `M`.
pub struct DiffusionEngine<M> {
    settings: Settings,
    memory: SystemMemory,
    model: PhantomData<fn() -> M>,
}

/// A loaded pipeline. Dropping it also releases libtorch's code pages.
pub struct LoadedPipeline<M: DiffusionModel> {
    pipeline: WithLoras<M>,
    residency: Residency,
    /// Bytes of LoRAs that were declared before it was loaded.
    lora_bytes: u64,
    /// Of the files that it was loaded from.
    fingerprint: String,
}

impl<M: DiffusionModel> Drop for LoadedPipeline<M> {
    fn drop(&mut self) {
        release_code_pages();
    }
}

impl<M: DiffusionModel> DiffusionEngine<M> {
    /// An engine for the checkpoint in `settings`. Does not read it yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        release_code_pages();
        Self { settings, memory: SystemMemory::new(), model: PhantomData }
    }

    fn folder(&self) -> Result<CheckpointFolder, ModelError> {
        CheckpointFolder::open(&self.settings.location()?, &M::LAYOUT)
            .map_err(|error| checkpoint_error(M::NAME, error))
    }

    fn description(&self, folder: &CheckpointFolder) -> Result<ModelDescription, ModelError> {
        M::describe(folder, &self.settings).map_err(|error| checkpoint_error(M::NAME, error))
    }

    /// Memory needed for the checkpoint's default video with the largest LoRAs that are installed.
    fn estimate(&self, folder: &CheckpointFolder) -> Result<MemoryEstimate, ModelError> {
        let estimate = M::memory(folder, &self.settings).map_err(|error| checkpoint_error(M::NAME, error))?;
        Ok(estimate.with_lasting(self.catalog().largest_bytes(self.settings.kind)))
    }

    fn catalog(&self) -> LoraCatalog {
        LoraCatalog::new(&self.settings.loras)
    }

    /// The layers that LoRAs can change, from the checkpoint's headers.
    fn layers(&self, folder: &CheckpointFolder) -> Result<CheckpointLayers, ModelError> {
        CheckpointLayers::open(&folder.path, &M::LORA_NAMES).map_err(|error| checkpoint_error(M::NAME, error))
    }

    /// The files of a job's LoRAs, if there is memory for them: what was installed after the model was loaded is not part
    /// of its declared peak.
    fn choose_loras(
        &self,
        model: &LoadedPipeline<M>,
        job: &ResolvedRequest,
    ) -> Result<Vec<ChosenLora>, EngineError> {
        let chosen = self.catalog().choose(&job.settings.loras).map_err(EngineError::InvalidInput)?;
        let needed: u64 = chosen.iter().map(|lora| lora.bytes_in(self.settings.kind)).sum();
        let undeclared = needed.saturating_sub(model.lora_bytes.max(model.pipeline.lora_bytes()));
        match self.memory.memory() {
            Some(memory) if undeclared > memory.available => {
                let detail = format!("the LoRAs of this job need {} MB", needed / 1_000_000);
                Err(ModelError::OutOfMemory(detail).into())
            }
            _ => Ok(chosen),
        }
    }

    fn residency(&self, estimate: &MemoryEstimate) -> Residency {
        estimate.residency(self.memory.memory().map(|memory| memory.available))
    }
}

impl<M: DiffusionModel> Engine for DiffusionEngine<M> {
    type Model = LoadedPipeline<M>;

    fn describe(&self) -> Result<ModelDescription, ModelError> {
        self.description(&self.folder()?)
    }

    fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Problem> {
        let folder = self.folder()?;
        let mut resolved = limits::resolve(request, &self.description(&folder)?)?;
        if let Some(demonstration) = &folder.demonstration {
            let mut unknown = demonstration.vocabulary.unknown(&resolved.settings.prompt);
            unknown.extend(demonstration.vocabulary.unknown(&resolved.settings.negative_prompt));
            if !unknown.is_empty() {
                resolved.warnings.push(format!(
                    "the demonstration checkpoint {} does not know these words and ignores them: {}; it knows: {}",
                    folder.name,
                    unknown.join(", "),
                    demonstration.vocabulary.words().join(", ")
                ));
            }
        }
        if !resolved.settings.loras.is_empty() {
            let layers = self.layers(&folder)?;
            resolved.warnings.extend(self.catalog().check(&resolved.settings.loras, &layers)?);
        }
        Ok(resolved)
    }

    fn loras(&self) -> Result<Vec<Lora>, ModelError> {
        Ok(self.catalog().list(&self.layers(&self.folder()?)?))
    }

    fn declared_peak(&self) -> Result<u64, ModelError> {
        let estimate = self.estimate(&self.folder()?)?;
        Ok(estimate.peak(self.residency(&estimate)))
    }

    fn load(&self) -> Result<Self::Model, ModelError> {
        let folder = self.folder()?;
        let Settings { kind, quantization, .. } = self.settings;
        let device = self.settings.device.device;
        let residency = self.residency(&self.estimate(&folder)?);
        let options = PipelineOptions {
            quantization,
            // The encoder runs once per prompt, and staging avoids its size when memory is short: it stays exact.
            text_quantization: Quantization::None,
            residency,
            tiled_vae: residency == Residency::Staged,
            ..PipelineOptions::new(device, kind)
        };
        let lora_bytes = self.catalog().largest_bytes(kind);
        let pipeline = WithLoras::<M>::load(&folder.path, options)
            .map_err(|error| model_error(M::NAME, error))?
            .keeping(lora_bytes);
        if self.folder()?.fingerprint != folder.fingerprint {
            return Err(ModelError::failed("the checkpoint's files changed while they were loaded"));
        }
        tracing::info!(
            checkpoint = folder.name,
            ?residency,
            resident_mb = pipeline.resident_bytes() / 1_000_000,
            transformer_mb = pipeline.transformer_bytes() / 1_000_000,
            "pipeline_loaded"
        );
        Ok(LoadedPipeline { pipeline, residency, lora_bytes, fingerprint: folder.fingerprint })
    }

    fn fingerprint(&self, model: &Self::Model) -> String {
        model.fingerprint.clone()
    }

    fn model_dropped(&self) {
        release_memory();
    }

    fn generate(
        &self,
        model: &mut Self::Model,
        job: &ResolvedRequest,
        context: &GenerateContext,
    ) -> Result<(), EngineError> {
        let chosen = self.choose_loras(model, job)?;
        let generation = Generation::from_job(job).map_err(EngineError::InvalidInput)?.with_loras(&chosen);
        model.pipeline.choose(chosen);
        let written = self.write_video(&mut model.pipeline, &generation, job, context);
        model.pipeline.choose(Vec::new());
        written.map_err(|stop| match stop {
            Stop::Cancelled => EngineError::Cancelled,
            Stop::Pipeline(error) => {
                engine_error(M::NAME, self.settings.kind, self.settings.quantization, error)
            }
        })?;
        // In this case the weights of a stage are read again during the job.
        let is_exchanged = || self.folder().is_ok_and(|folder| folder.fingerprint != model.fingerprint);
        if model.residency == Residency::Staged && is_exchanged() {
            return Err(EngineError::failed("the checkpoint's files changed while the job ran"));
        }
        Ok(())
    }
}

impl<M: DiffusionModel> DiffusionEngine<M> {
    fn write_video(
        &self,
        pipeline: &mut WithLoras<M>,
        generation: &Generation,
        job: &ResolvedRequest,
        context: &GenerateContext,
    ) -> Result<(), Stop> {
        let mut output = Output::create(job, context)?;
        let on_progress = |progress| {
            match progress {
                Progress::Encoding => context.progress(Stage::Encoding, 0, 1),
                Progress::Denoising { done, steps } => context.progress(Stage::Denoising, done, steps),
                Progress::Decoding { done, frames } => context.progress(Stage::Decoding, done, frames),
            }
            context.check_cancelled().map_err(|_| Stop::Cancelled)
        };
        let scratch = Some(context.scratch_dir());
        let summary = generate(pipeline, generation, scratch, on_progress, |frame| {
            output.push(frame).map_err(Stop::from)
        })?;
        if summary.truncated {
            tracing::warn!(job_id = %context.job_id(), "prompt_truncated");
        }
        output.finish(summary.sound, job, context)?;
        Ok(())
    }
}

/// Why a generation ended early.
enum Stop {
    Cancelled,
    Pipeline(PipelineError),
}

impl From<PipelineError> for Stop {
    fn from(error: PipelineError) -> Self {
        Self::Pipeline(error)
    }
}

fn engine_error(service: &str, kind: Kind, quantization: Quantization, error: PipelineError) -> EngineError {
    match error {
        PipelineError::Input { field, reason } => EngineError::InvalidInput(Problem::field(field, reason)),
        // Another attempt reads the new file.
        PipelineError::Lora(error) if matches!(error.fault, LoraFault::Changed) => EngineError::failed(error),
        PipelineError::Lora(error) => EngineError::InvalidInput(Problem::field("loras", error.to_string())),
        // The job waits for disk space.
        PipelineError::Scratch { source, .. }
        | PipelineError::Output { source, .. }
        | PipelineError::Mp4(Mp4Error::Io(source))
            if is_storage_shortage(&source) =>
        {
            EngineError::StorageFull(source)
        }
        PipelineError::Tensor(error @ TensorError::NotFinite { .. }) => {
            EngineError::Numerical(format!("{error}; {}", numerical_advice(kind, quantization)))
        }
        other => model_error(service, other).into(),
    }
}

/// What to change when a model computes NaN or infinity.
fn numerical_advice(kind: Kind, quantization: Quantization) -> String {
    let dtype = match kind {
        Kind::Half => "the model ran in f16, set VIDEOSDGX_DTYPE to bf16 or f32",
        Kind::BFloat16 => "the model ran in bf16, set VIDEOSDGX_DTYPE to f32",
        _ => "the model ran in f32, so its weights may be damaged: compare their checksums",
    };
    match quantization {
        Quantization::None => dtype.to_owned(),
        other => format!("{dtype}, or VIDEOSDGX_QUANTIZATION (now {other}) to none"),
    }
}

fn model_error(service: &str, error: PipelineError) -> ModelError {
    match error {
        PipelineError::Tensor(TensorError::Checkpoint(error)) => checkpoint_error(service, error),
        PipelineError::Tensor(TensorError::OutOfMemory(detail)) => ModelError::OutOfMemory(detail),
        PipelineError::Tensor(TensorError::DeviceFailed(detail)) => ModelError::DeviceFailed(detail),
        other => ModelError::failed(other),
    }
}

fn checkpoint_error(service: &str, error: CheckpointError) -> ModelError {
    match error {
        CheckpointError::Missing { path } => {
            ModelError::CheckpointMissing { hint: hint(service, &path), path }
        }
        CheckpointError::Invalid { file, reason, .. } => ModelError::CheckpointInvalid { file, reason },
    }
}

fn hint(service: &str, path: &Path) -> String {
    let preset =
        videosdgx_manifest::service(service).map_or("--list", |service| service.default_preset.as_str());
    format!(
        "fetch one with `videosdgx pull {preset}`, or point VIDEOSDGX_CHECKPOINT at a folder with {}",
        path.file_name().map_or_else(|| "model_index.json".into(), |name| name.to_string_lossy())
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn errors_keep_what_the_queue_decides_by() {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};

        let engine_error = |error| engine_error("wan21", Kind::BFloat16, Quantization::None, error);
        for kind in [StorageFull, QuotaExceeded, ReadOnlyFilesystem] {
            for error in [
                PipelineError::Mp4(Mp4Error::Io(kind.into())),
                PipelineError::Scratch { path: "latents".into(), source: kind.into() },
                PipelineError::Output { path: "out.png".into(), source: kind.into() },
            ] {
                assert!(matches!(engine_error(error), EngineError::StorageFull(_)), "{kind:?}");
            }
        }
        let other = PipelineError::Mp4(Mp4Error::Io(PermissionDenied.into()));
        assert!(engine_error(other).is_worth_another_attempt());
        let input = PipelineError::Input { field: "width", reason: "is too large".to_owned() };
        assert!(matches!(engine_error(input), EngineError::InvalidInput(problem)
            if problem.field.as_deref() == Some("width")));
    }

    #[test]
    fn numerical_failures_name_the_stage_and_the_dtype_to_try() {
        for (kind, quantization, words) in [
            (Kind::Half, Quantization::None, ["denoising", "bf16 or f32"]),
            (Kind::BFloat16, Quantization::None, ["denoising", "VIDEOSDGX_DTYPE to f32"]),
            (Kind::Float, Quantization::None, ["denoising", "checksums"]),
            (Kind::BFloat16, Quantization::Fp8, ["f32", "VIDEOSDGX_QUANTIZATION (now fp8) to none"]),
        ] {
            let error = TensorError::NotFinite { what: "the latents after denoising" };
            let error = engine_error("wan21", kind, quantization, error.into());
            assert_eq!((error.code(), error.is_worth_another_attempt()), ("numerical_failure", false));
            for word in words {
                assert!(error.to_string().contains(word), "{error}");
            }
        }
    }

    #[test]
    fn a_device_that_failed_is_told_from_a_failed_computation() {
        let error =
            |error| engine_error("wan21", Kind::Float, Quantization::None, PipelineError::Tensor(error));
        let failed = error(TensorError::DeviceFailed("CUDA error: unspecified launch failure".to_owned()));
        assert!(matches!(&failed, EngineError::Model(ModelError::DeviceFailed(_))), "{failed:?}");
        assert!(failed.is_worth_another_attempt(), "the next process may have a working device");
        let short = error(TensorError::OutOfMemory("CUDA out of memory".to_owned()));
        assert!(matches!(short, EngineError::Model(ModelError::OutOfMemory(_))));
    }

    #[test]
    fn a_missing_checkpoint_names_the_command_that_fetches_one() {
        let missing = CheckpointError::Missing { path: "models/wan21/model_index.json".into() };
        let message = checkpoint_error("wan21", missing).to_string();
        assert!(message.contains("videosdgx pull wan2.1-t2v-1.3b"), "{message}");
    }
}
