use std::path::{Path, PathBuf};

use base64::Engine as _;
use videosdgx_api::{GenerateRequest, Job, JobStatus, openai::ModelKind};

use crate::{
    args::{Generate, Server},
    connect,
    failure::{Exit, Failure},
    jobs, show,
};

/// As the API says.
const MAX_IMAGE_BYTES: u64 = 10 << 20;

pub(crate) async fn run(server: &Server, command: Box<Generate>) -> Result<(), Failure> {
    let request = request(&command)?;
    let client = connect::client(server)?;
    let model = connect::model(&client, command.model.clone(), ModelKind::Video).await?;
    let accepted = client.generate(&model, &request, command.idempotency_key.as_deref()).await?;
    for warning in &accepted.warnings {
        eprintln!("warning: {warning}");
    }
    if command.no_wait {
        if command.json {
            return show::json(&accepted);
        }
        println!("{}", accepted.job_id);
        return Ok(());
    }
    eprintln!("{} on {} ({})", accepted.job_id, model, accepted.checkpoint);
    let mut bar = show::JobBar::new();
    let followed = tokio::select! {
        followed = client.follow(&accepted.job_id, |progress| bar.update(progress)) => followed,
        _ = tokio::signal::ctrl_c() => {
            bar.finish();
            let id = &accepted.job_id;
            eprintln!("the job goes on: `videosdgx download {id}` when it is done, `videosdgx cancel {id}` to end it");
            return Err(Failure::new(Exit::Interrupted, "interrupted"));
        }
    };
    bar.finish();
    let job = followed?;
    completed(&job)?;
    let output = command.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.mp4", job.job_id)));
    jobs::save(&client, &job.job_id, &output).await?;
    if command.json { show::json(&job) } else { announce(&job, &output) }
}

fn announce(job: &Job, output: &Path) -> Result<(), Failure> {
    eprintln!(
        "{} frames of {} at {} fps, seed {}{}",
        job.num_frames,
        job.resolution,
        job.fps,
        job.seed,
        job.started_at.zip(job.completed_at).map_or(String::new(), |(from, to)| format!(
            ", made in {:.1} s",
            to.duration_since(from).as_secs_f64()
        ))
    );
    println!("{}", output.display());
    Ok(())
}

/// Turns an end that is no video into a failure.
fn completed(job: &Job) -> Result<(), Failure> {
    let reason = job.error.clone().unwrap_or_else(|| "no reason was given".to_owned());
    match job.status {
        JobStatus::Completed => Ok(()),
        JobStatus::Cancelled => {
            Err(Failure::new(Exit::JobCancelled, format!("{} was cancelled", job.job_id)))
        }
        status => Err(Failure::new(
            Exit::JobFailed,
            format!(
                "{} is {}: {reason}{}",
                job.job_id,
                status.as_str(),
                job.error_code.as_ref().map_or(String::new(), |code| format!(" ({code})"))
            ),
        )),
    }
}

fn request(command: &Generate) -> Result<GenerateRequest, Failure> {
    Ok(GenerateRequest {
        prompt: command.prompt.clone(),
        negative_prompt: command.negative_prompt.clone(),
        duration: command.duration,
        fps: command.fps,
        resolution: command.resolution,
        num_frames: command.num_frames,
        steps: command.steps,
        guidance_scale: command.guidance_scale,
        seed: command.seed,
        priority: command.priority,
        image: command.image.as_deref().map(image).transpose()?,
        format: command.format,
        scheduler: command.scheduler,
    })
}

fn image(path: &Path) -> Result<String, Failure> {
    let cannot =
        |reason: String| Failure::new(Exit::Local, format!("cannot use {}: {reason}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if size > MAX_IMAGE_BYTES {
        return Err(cannot(format!("it has {size} bytes, an image has at most {MAX_IMAGE_BYTES}")));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}
