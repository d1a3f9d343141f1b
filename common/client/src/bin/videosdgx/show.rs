use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use videosdgx_api::{Job, JobStatus, Stage};
use videosdgx_client::Progress;

use crate::failure::{Exit, Failure};

/// Prints an answer as JSON on standard output.
pub(crate) fn json<T: Serialize>(answer: &T) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(answer).map_err(|error| Failure::new(Exit::Local, error.to_string()))?;
    println!("{text}");
    Ok(())
}

/// Shows the progress of a job on standard error: a bar on a terminal, else one line per change.
pub(crate) struct JobBar {
    bar: ProgressBar,
    hidden: bool,
    last: Option<(JobStatus, Option<Stage>, u32)>,
}

impl JobBar {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} [{elapsed_precise}] [{bar:40}] {pos:>3} % {msg}"));
        let hidden = bar.is_hidden();
        if !hidden {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self { bar, hidden, last: None }
    }

    pub(crate) fn update(&mut self, progress: &Progress) {
        let message = describe(progress);
        self.bar.set_position(u64::from(progress.percent));
        self.bar.set_message(message.clone());
        let stage =
            progress.stage.filter(|stage| progress.status == JobStatus::Running || *stage == Stage::Waiting);
        let state = (progress.status, stage, progress.attempt);
        if self.hidden && self.last != Some(state) {
            eprintln!("{:>3} % {message}", progress.percent);
        }
        self.last = Some(state);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn describe(progress: &Progress) -> String {
    let mut text = match (progress.status, progress.stage) {
        (JobStatus::Queued, Some(Stage::Waiting)) => "waiting for memory or disk space",
        (JobStatus::Running, Some(stage)) => match stage {
            Stage::Waiting => "waiting",
            Stage::Loading => "loading the model",
            Stage::Encoding => "encoding the prompt",
            Stage::Denoising => "denoising",
            Stage::Decoding => "decoding",
            Stage::Saving => "saving",
        },
        (status, _) => status.as_str(),
    }
    .to_owned();
    if let (Some((done, all)), JobStatus::Running) = (progress.steps, progress.status)
        && all > 1
    {
        text.push_str(&format!(" {done}/{all}"));
    }
    if progress.attempt > 1 {
        text.push_str(&format!(" (attempt {})", progress.attempt));
    }
    text
}

/// A progress bar in bytes, on standard error.
pub(crate) fn byte_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style("{msg:40!} [{bar:30}] {bytes:>10}/{total_bytes} {bytes_per_sec} {eta}"));
    bar
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// Prints a job as text.
pub(crate) fn job(job: &Job) {
    let line = |name: &str, value: String| println!("{name:<10} {value}");
    line("job", job.job_id.to_string());
    line("status", format!("{} ({} %)", job.status.as_str(), job.progress));
    line("model", format!("{} ({})", job.model_name, job.checkpoint));
    let settings = &job.settings;
    line("prompt", settings.prompt.clone());
    let (resolution, frames, fps) = (settings.resolution, settings.num_frames, settings.fps);
    line("video", format!("{resolution} · {frames} frames · {fps} fps · {:.2} s", job.duration));
    let (steps, guidance, seed) = (settings.steps, settings.guidance_scale, settings.seed);
    line("sampling", format!("{steps} steps · guidance {guidance} · seed {seed}"));
    if !settings.loras.is_empty() {
        let loras = settings.loras.iter().map(|lora| format!("{} × {}", lora.name, lora.scale));
        line("loras", loras.collect::<Vec<_>>().join(" · "));
    }
    line("created", job.created_at.to_string());
    if let (Some(from), Some(to)) = (job.started_at, job.completed_at) {
        line("took", format!("{:.1} s", to.duration_since(from).as_secs_f64()));
    }
    if let Some(position) = job.queue_position {
        line("queue", format!("number {position}"));
    }
    if let Some(error) = &job.error {
        line(
            "error",
            format!("{error}{}", job.error_code.as_ref().map_or(String::new(), |code| format!(" ({code})"))),
        );
    }
    for warning in &job.warnings {
        line("warning", warning.clone());
    }
}
