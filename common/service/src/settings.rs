//! Configuration of a video service by environment, in addition to that of every service.

use std::{path::PathBuf, time::Duration};

use videosdgx_jobs::QueueConfig;
use videosdgx_shell::{ConfigError, Variables, environment};

/// Configuration of a video service, in addition to [`videosdgx_shell::ServiceConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoSettings {
    /// `VIDEOSDGX_OUTPUTS_DIR`: the finished videos; default: `state/<service>/outputs`.
    pub outputs_dir: PathBuf,
    /// `VIDEOSDGX_QUEUE_CAPACITY` (most jobs that wait, 10,000), `VIDEOSDGX_LEASE_SECONDS` (30), `VIDEOSDGX_RETENTION_DAYS` (7).
    pub queue: QueueConfig,
}

impl VideoSettings {
    /// Reads the environment of the service `name`.
    ///
    /// # Errors
    /// The first variable with an invalid value.
    pub fn from_env(name: &str) -> Result<Self, ConfigError> {
        Self::from_lookup(name, environment)
    }

    /// As [`VideoSettings::from_env`] with the variables that `lookup` knows; empty ones count as not set.
    ///
    /// # Errors
    /// The first variable with an invalid value.
    pub fn from_lookup(name: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let variables = Variables::new(&lookup);
        let mut queue = QueueConfig::default();
        queue.max_queued = variables.number("VIDEOSDGX_QUEUE_CAPACITY", queue.max_queued, 1..=1_000_000)?;
        queue.max_queued_per_principal = queue.max_queued_per_principal.min(queue.max_queued);
        let lease = variables.number("VIDEOSDGX_LEASE_SECONDS", queue.lease.as_secs(), 3..=3600)?;
        queue.lease = Duration::from_secs(lease);
        let days = variables.number("VIDEOSDGX_RETENTION_DAYS", 7_u64, 1..=3650)?;
        queue.retention.max_age = Duration::from_secs(days * 24 * 3600);
        let outputs_dir = variables.text("VIDEOSDGX_OUTPUTS_DIR");
        Ok(Self { outputs_dir: outputs_dir.unwrap_or_else(|| format!("state/{name}/outputs")).into(), queue })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<VideoSettings, ConfigError> {
        VideoSettings::from_lookup("wan21", |name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_setting_has_a_default() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.outputs_dir, PathBuf::from("state/wan21/outputs"));
        assert_eq!(settings.queue, QueueConfig::default());
    }

    #[test]
    fn each_bad_value_names_its_variable() {
        for (variable, value) in [
            ("VIDEOSDGX_QUEUE_CAPACITY", "0"),
            ("VIDEOSDGX_LEASE_SECONDS", "1"),
            ("VIDEOSDGX_RETENTION_DAYS", "0"),
        ] {
            let error = settings(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(variable), "{error}");
        }
    }
}
