//! Which files of jobs are kept: a result is removed with its forgotten job, and so is a file that belongs to no job. The
//! rules depend only on the interface of [`Queue`], so they are the same for every driver, and several services may share one
//! outputs folder.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use videosdgx_api::JobStatus;
use videosdgx_jobs::{JobRecord, Queue, QueueDriver, QueueError, QueueOptions, wait};

use crate::{VideoSettings, output_file::OutputFile, outputs::Outputs, service::Service};

/// An unfinished file of a job that this service's queue does not know may belong to another replica, which creates it before
/// denoising and writes to it afterwards: it is removed only when it has not changed for this long.
const UNKNOWN_UNFINISHED_AGE: Duration = Duration::from_secs(24 * 3600);

/// Opens the queue; files of jobs that are forgotten, by their owner or by age, are removed with them.
pub(crate) fn open_queue(
    driver: impl QueueDriver,
    settings: &VideoSettings,
    outputs: &Outputs,
) -> Result<Arc<dyn Queue>, QueueError> {
    let outputs = outputs.clone();
    driver.open(QueueOptions::from(settings.queue.clone()).with_on_forgotten(move |forgotten| {
        if let Some(name) = &forgotten.output_path {
            outputs.remove(name);
        }
        outputs.remove_scratch(&forgotten.id);
    }))
}

/// Removes the scratch folders of jobs that have ended or are forgotten.
pub(crate) fn sweep_scratch(service: &Service) -> std::io::Result<()> {
    for job in service.outputs.scratch_jobs()? {
        match wait(service.queue.find(&job)) {
            Ok(Some(record)) if !record.status.is_terminal() => {}
            Ok(_) => service.outputs.remove_scratch(&job),
            Err(error) => tracing::warn!(job_id = %job, %error, "scratch_not_swept"),
        }
    }
    Ok(())
}

/// Removes the files that no attempt owns. Runs on the worker's thread, between two jobs.
pub(crate) fn sweep_outputs(service: &Service) {
    let files = match service.outputs.files(service.name()) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(%error, "outputs_not_swept");
            return;
        }
    };
    let max_age = service.settings.queue.retention.max_age;
    for file in files {
        let record = match wait(service.queue.find(&file.job)) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(job_id = %file.job, %error, "output_not_swept");
                continue;
            }
        };
        if is_orphan(&file, record.as_ref(), age(&service.outputs, &file), max_age) {
            tracing::info!(job_id = %file.job, attempt = file.attempt, file = file.name(), "orphan_removed");
            service.outputs.remove_listed(&file);
        }
    }
}

/// Whether no attempt owns `file`, which has not changed for `age`. `record` is what this service's queue knows of its job.
///
/// - The attempt that runs now owns its file, finished or not: a worker (perhaps of another process) is writing it.
/// - Of any other attempt of a known job, only the announced result and its previews are kept.
/// - An unknown job may be another replica's. Its video is kept as long as jobs are, so that a restored older queue
///   finds it.
fn is_orphan(
    file: &OutputFile,
    record: Option<&JobRecord>,
    age: Option<Duration>,
    max_age: Duration,
) -> bool {
    match record {
        Some(record) if record.status == JobStatus::Running && record.attempt == file.attempt => false,
        Some(record) => record.output.as_ref().is_none_or(|output| !file.belongs_to(&output.path)),
        None => {
            let limit = if file.unfinished { UNKNOWN_UNFINISHED_AGE } else { max_age };
            age.is_some_and(|age| age > limit)
        }
    }
}

/// Time since the file was changed last; `None` when it is gone or the clock was set back.
fn age(outputs: &Outputs, file: &OutputFile) -> Option<Duration> {
    let modified = fs::metadata(outputs.location(file)).ok()?.modified().ok()?;
    SystemTime::now().duration_since(modified).ok()
}

#[cfg(test)]
mod tests {
    use videosdgx_api::{OutputFormat, Principal, Priority};
    use videosdgx_jobs::JobOutput;

    use super::*;
    use crate::output_file::FileKind;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    const DAY: Duration = Duration::from_secs(24 * 3600 + 1);

    fn file(attempt: u32, unfinished: bool) -> OutputFile {
        let kind = FileKind::Result(OutputFormat::H264);
        OutputFile { job: "fake-1".parse().unwrap(), attempt, kind, unfinished }
    }

    fn record(status: JobStatus, attempt: u32, output: Option<&str>) -> JobRecord {
        JobRecord {
            number: 1,
            id: "fake-1".parse().unwrap(),
            principal: Principal::new("ann"),
            status,
            priority: Priority::default(),
            body: "{}".to_owned(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
            attempt,
            attempts_used: attempt,
            cancel_requested: false,
            progress: None,
            percent: 0,
            queue_position: None,
            sequence: 1,
            warnings: Vec::new(),
            output: output.map(|path| JobOutput { path: path.to_owned(), bytes: 1, used: "{}".to_owned() }),
            failure: None,
        }
    }

    #[test]
    fn the_running_attempt_owns_its_files_and_no_other_does() {
        let running = record(JobStatus::Running, 2, None);
        for unfinished in [true, false] {
            assert!(!is_orphan(&file(2, unfinished), Some(&running), Some(2 * WEEK), WEEK));
            assert!(is_orphan(&file(1, unfinished), Some(&running), Some(Duration::ZERO), WEEK));
        }
        let queued = record(JobStatus::Queued, 1, None);
        assert!(is_orphan(&file(1, true), Some(&queued), Some(Duration::ZERO), WEEK));
    }

    #[test]
    fn of_a_job_that_has_ended_the_result_is_kept() {
        let completed = record(JobStatus::Completed, 2, Some("fake-1.2.mp4"));
        assert!(!is_orphan(&file(2, false), Some(&completed), Some(2 * WEEK), WEEK));
        assert!(is_orphan(&file(1, false), Some(&completed), Some(Duration::ZERO), WEEK));
        assert!(is_orphan(&file(2, true), Some(&completed), Some(Duration::ZERO), WEEK));
    }

    #[test]
    fn files_of_unknown_jobs_are_judged_by_age() {
        assert!(!is_orphan(&file(1, true), None, Some(Duration::from_secs(3600)), WEEK));
        assert!(is_orphan(&file(1, true), None, Some(DAY), WEEK));
        assert!(!is_orphan(&file(1, false), None, Some(DAY), WEEK));
        assert!(is_orphan(&file(1, false), None, Some(WEEK + DAY), WEEK));
        assert!(!is_orphan(&file(1, true), None, None, WEEK), "a file without an age is kept");
    }
}
