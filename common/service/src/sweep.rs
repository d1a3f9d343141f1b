//! Removes files that no job owns: what a killed process left, and videos of forgotten jobs.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use videosdgx_jobs::wait;

use crate::{outputs::OutputFile, service::Service};

/// Scratch folders of jobs that have ended or are forgotten.
pub(crate) fn scratch(service: &Service) -> std::io::Result<()> {
    for job in service.outputs.scratch_jobs()? {
        match wait(service.queue.find(&job)) {
            Ok(Some(record)) if !record.status.is_terminal() => {}
            Ok(_) => service.outputs.remove_scratch(&job),
            Err(error) => tracing::warn!(job_id = %job, %error, "scratch_not_swept"),
        }
    }
    Ok(())
}

/// Unfinished files, and results that were never announced. Only on the worker's thread, between two jobs. A video whose job is
/// unknown is kept as long as jobs are: whoever restores an older queue finds it.
pub(crate) fn outputs(service: &Service) {
    let files = match service.outputs.files(service.name()) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(%error, "outputs_not_swept");
            return;
        }
    };
    for file in files {
        if is_orphan(service, &file) {
            tracing::info!(job_id = %file.job, attempt = file.attempt, file = file.name, "orphan_removed");
            if file.unfinished {
                service.outputs.discard(&file.job, file.attempt);
            } else {
                service.outputs.remove(&file.name);
            }
        }
    }
}

fn is_orphan(service: &Service, file: &OutputFile) -> bool {
    if file.unfinished {
        return true;
    }
    match wait(service.queue.find(&file.job)) {
        Ok(Some(record)) => record.output.is_none_or(|output| output.path != file.name),
        Ok(None) => older_than(service, file, service.settings.queue.retention.max_age),
        Err(error) => {
            tracing::warn!(job_id = %file.job, %error, "output_not_swept");
            false
        }
    }
}

fn older_than(service: &Service, file: &OutputFile, age: Duration) -> bool {
    service
        .outputs
        .path(&file.name)
        .and_then(|path| fs::metadata(path).ok()?.modified().ok())
        .and_then(|modified| SystemTime::now().duration_since(modified).ok())
        .is_some_and(|since| since > age)
}
