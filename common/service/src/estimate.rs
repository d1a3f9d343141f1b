//! Estimates of when a job will be done.

use videosdgx_api::{JobStatus, LoaderReport, LoaderState};
use videosdgx_jobs::Totals;

/// Assumed duration of a job before the first one has ended.
const UNKNOWN_JOB_SECONDS: f64 = 60.0;

/// Seconds of one job: the mean of the last ten that were completed, so that it follows the current kind of requests.
pub(crate) fn job_seconds(totals: &Totals) -> f64 {
    let recent: Vec<f64> = totals
        .last_10
        .iter()
        .filter(|record| record.status == JobStatus::Completed)
        .map(|record| record.duration_seconds)
        .collect();
    if recent.is_empty() {
        return totals.duration_seconds_avg().unwrap_or(UNKNOWN_JOB_SECONDS);
    }
    #[expect(clippy::cast_precision_loss, reason = "at most ten")]
    let count = recent.len() as f64;
    recent.iter().sum::<f64>() / count
}

/// Seconds until the job at `position` (1 = next, 0 = not waiting) is done, with `running` jobs half way.
pub(crate) fn seconds_until_done(position: u64, running: u64, totals: &Totals, loader: &LoaderReport) -> f64 {
    if position == 0 {
        return 0.0;
    }
    let load = if loader.state == LoaderState::Loaded { 0.0 } else { loader.load_seconds.unwrap_or(0.0) };
    #[expect(clippy::cast_precision_loss, reason = "numbers of jobs")]
    let jobs = position as f64 + running as f64 / 2.0;
    ((jobs * job_seconds(totals) + load) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use videosdgx_api::InferenceRecord;

    use super::*;

    fn loader(state: LoaderState) -> LoaderReport {
        LoaderReport {
            state,
            error: None,
            error_code: None,
            load_seconds: Some(7.0),
            idle_seconds: None,
            in_use: 0,
            auto_unload_minutes: 0.0,
            unloads_in_seconds: None,
            loads: 1,
        }
    }

    fn record(status: JobStatus, seconds: f64) -> InferenceRecord {
        InferenceRecord {
            job_id: "fake-1".parse().unwrap(),
            status,
            duration_seconds: seconds,
            prompt_characters: 1,
            completed_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_last_completed_jobs_tell_how_long_the_next_takes() {
        let mut totals = Totals::default();
        let loaded = loader(LoaderState::Loaded);
        assert!((seconds_until_done(1, 0, &totals, &loaded) - 60.0).abs() < 1e-9);
        totals.last_10 = vec![
            record(JobStatus::Completed, 2.0),
            record(JobStatus::Failed, 900.0),
            record(JobStatus::Completed, 4.0),
        ];
        assert!((seconds_until_done(2, 1, &totals, &loaded) - 7.5).abs() < 1e-9);
        assert!((seconds_until_done(1, 0, &totals, &loader(LoaderState::Unloaded)) - 10.0).abs() < 1e-9);
        assert_eq!(seconds_until_done(0, 3, &totals, &loaded).to_bits(), 0.0_f64.to_bits());
    }
}
