use std::path::Path;

use videosdgx_api::{Job, JobStatus, openai::ModelKind};

use crate::{
    args::{Generate, Server},
    connect,
    failure::{Exit, Failure},
    jobs, show,
};

pub(crate) async fn run(server: &Server, command: Box<Generate>) -> Result<(), Failure> {
    let command = *command;
    let request = command.settings.into_request(command.prompt)?;
    let client = connect::client(server)?;
    let model = connect::model(&client, command.model, ModelKind::Video).await?;
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
            eprintln!("the job continues: `videosdgx download {id}` when it is done, `videosdgx cancel {id}` to end it");
            return Err(Failure::new(Exit::Interrupted, "interrupted"));
        }
    };
    bar.finish();
    let job = followed?;
    completed(&job)?;
    let output = command.output.unwrap_or_else(|| jobs::default_output(&job));
    jobs::save(&client, &job.job_id, &output).await?;
    if command.json { show::json(&job) } else { announce(&job, &output) }
}

fn announce(job: &Job, output: &Path) -> Result<(), Failure> {
    eprintln!(
        "{} frames of {} at {} fps, seed {}{}",
        job.settings.num_frames,
        job.settings.resolution,
        job.settings.fps,
        job.settings.seed,
        job.started_at.zip(job.completed_at).map_or(String::new(), |(from, to)| format!(
            ", made in {:.1} s",
            to.duration_since(from).as_secs_f64()
        ))
    );
    println!("{}", output.display());
    Ok(())
}

/// Fails unless the job has completed.
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
