use std::path::{Path, PathBuf};

use videosdgx_api::{JobId, openai::ModelKind};
use videosdgx_client::{Client, JobFilter};

use crate::{
    args::{Cancel, Download, Job, Jobs, Models, Server},
    connect,
    failure::Failure,
    show,
};

/// Largest page size that is requested.
const PAGE: usize = 100;

pub(crate) async fn list(server: &Server, command: Jobs) -> Result<(), Failure> {
    let client = connect::client(server)?;
    let model = connect::model(&client, command.model, ModelKind::Video).await?;
    let mut filter = JobFilter { status: command.status, ..JobFilter::default() };
    let mut jobs = Vec::new();
    while jobs.len() < command.limit {
        filter.limit = u32::try_from((command.limit - jobs.len()).min(PAGE)).ok();
        let page = client.jobs(&model, &filter).await?;
        jobs.extend(page.jobs);
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    if command.json {
        return show::json(&jobs);
    }
    for job in &jobs {
        let prompt: String = job.settings.prompt.chars().take(60).collect();
        println!(
            "{:<24} {:<10} {:>3} %  {}  {prompt}",
            job.job_id,
            job.status.as_str(),
            job.progress,
            job.created_at
        );
    }
    if jobs.is_empty() {
        eprintln!("no jobs");
    }
    Ok(())
}

pub(crate) async fn show(server: &Server, command: Job) -> Result<(), Failure> {
    let job = connect::client(server)?.job(&command.id).await?;
    if command.json {
        return show::json(&job);
    }
    show::job(&job);
    Ok(())
}

pub(crate) async fn cancel(server: &Server, command: Cancel) -> Result<(), Failure> {
    let client = connect::client(server)?;
    let job =
        if command.forget { client.forget(&command.id).await? } else { client.cancel(&command.id).await? };
    if command.json {
        return show::json(&job);
    }
    let forgotten = if command.forget { ", and deleted" } else { "" };
    println!("{} {}{forgotten}", job.job_id, job.status.as_str());
    Ok(())
}

pub(crate) async fn download(server: &Server, command: Download) -> Result<(), Failure> {
    let client = connect::client(server)?;
    let output = match command.output {
        Some(output) => output,
        None => default_output(&client.job(&command.id).await?),
    };
    save(&client, &command.id, &output).await?;
    println!("{}", output.display());
    Ok(())
}

/// The job's id with the extension of its format.
pub(crate) fn default_output(job: &videosdgx_api::Job) -> PathBuf {
    PathBuf::from(format!("{}.{}", job.job_id, job.settings.format.extension()))
}

/// Downloads with a bar.
pub(crate) async fn save(client: &Client, id: &JobId, output: &Path) -> Result<(), Failure> {
    let bar = show::byte_bar();
    bar.set_message(output.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let saved = client
        .download(id, output, |done, total| {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
        })
        .await;
    bar.finish_and_clear();
    saved?;
    Ok(())
}

pub(crate) async fn models(server: &Server, command: Models) -> Result<(), Failure> {
    let models = connect::client(server)?.models().await?;
    if command.json {
        return show::json(&models);
    }
    for model in &models.data {
        let state = if model.available { "available" } else { "unavailable" };
        let kind = model.kind.map_or("", |kind| kind.as_str());
        let checkpoint = model.checkpoint.as_deref().unwrap_or("no checkpoint");
        println!("{:<18} {kind:<6} {state:<16} {checkpoint}", model.id);
    }
    Ok(())
}
