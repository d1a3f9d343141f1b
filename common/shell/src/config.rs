//! Configuration by environment variables; an error names the variable.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use videosdgx_api::{DeviceChoice, DtypeChoice, Quantization, UnknownChoice};
use videosdgx_auth::{AuthConfig, AuthError};
use videosdgx_connection::Timeouts;

use crate::{Variables, environment};

/// The limits of HTTP itself (408 for a late header, keep-alive) end a second earlier.
const TIMEOUTS: Timeouts = Timeouts {
    header: Duration::from_secs(6),
    idle: Duration::from_secs(16),
    write_stall: Duration::from_secs(20),
};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable has a value that cannot be used.
    #[error("{variable}: {reason}")]
    Variable {
        /// Name of the variable.
        variable: &'static str,
        /// What is wrong and what can be used instead; never the value of a secret.
        reason: String,
    },
    /// The keys cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Plain text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Configuration that every service has.
///
/// ```
/// let config = videosdgx_shell::ServiceConfig::from_lookup("wan21", |_| None)?;
/// assert_eq!(config.listen.to_string(), "127.0.0.1:8002");
/// # Ok::<(), videosdgx_shell::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The service's name: prefix of its ids, and its folder in `models_dir`.
    pub name: String,
    /// `VIDEOSDGX_LISTEN`; port 0 takes a free port, which is printed.
    pub listen: SocketAddr,
    /// `VIDEOSDGX_STATE_DIR`: what the service keeps over restarts; default: `state/<name>`.
    pub state_dir: PathBuf,
    /// `VIDEOSDGX_MODELS_DIR`: one folder per model; default: `models`.
    pub models_dir: PathBuf,
    /// `VIDEOSDGX_CHECKPOINT`: the checkpoint's folder, used instead of the one in `models_dir`.
    pub checkpoint: Option<PathBuf>,
    /// `VIDEOSDGX_DEMO_CHECKPOINT`: the demonstration checkpoint, used when no other is installed.
    pub demo_checkpoint: Option<PathBuf>,
    /// `VIDEOSDGX_LORAS_DIR`: the LoRAs of a video service; default: `loras` in its folder in `models_dir`.
    pub loras_dir: PathBuf,
    /// `VIDEOSDGX_AUTH_DIR` and the other variables of [`AuthConfig`].
    pub auth: AuthConfig,
    /// `VIDEOSDGX_DEVICE`: `auto`, `cpu`, `cuda:0`.
    pub device: DeviceChoice,
    /// `VIDEOSDGX_DTYPE`: `auto`, `bf16`, `f16`, `f32`.
    pub dtype: DtypeChoice,
    /// `VIDEOSDGX_QUANTIZATION`: `none`, `fp8`, `nf4`, `nvfp4`, `int4`.
    pub quantization: Quantization,
    /// `AUTO_UNLOAD_MINUTES`: idle minutes until the model is unloaded, 30; 0 = never.
    pub auto_unload_minutes: f64,
    /// `VIDEOSDGX_MEMORY_RESERVE_GB`: memory that a load leaves free, GB = 10⁹ bytes, 0.5.
    pub memory_reserve_bytes: u64,
    /// `LOG_LEVEL`: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,videosdgx_jobs=debug`.
    pub log_level: String,
    /// `LOG_FORMAT`: `text`, `json`.
    pub log_format: LogFormat,
    /// `DRAIN_SECONDS`: how long running work and downloads may continue after SIGTERM, 120.
    pub drain: Duration,
    /// Interval between two comments on an idle event stream, 15 s; no variable sets it.
    pub heartbeat: Duration,
    /// Time limits of a connection in every phase; no variable sets them.
    pub timeouts: Timeouts,
    /// Bytes of request bodies in memory at once, 256 MiB; no variable sets it.
    pub held_bodies: usize,
    /// The same for one principal, 128 MiB; no variable sets it.
    pub held_bodies_per_principal: usize,
}

impl ServiceConfig {
    /// Reads the environment of the service `name`, which listens on 127.0.0.1 at its port in `services/manifest.toml` by default.
    ///
    /// # Errors
    /// The first variable with an invalid value.
    pub fn from_env(name: &str) -> Result<Self, ConfigError> {
        Self::from_lookup(name, environment)
    }

    /// As [`ServiceConfig::from_env`] with the variables that `lookup` knows; empty ones count as not set.
    ///
    /// # Errors
    /// The first variable with an invalid value.
    pub fn from_lookup(name: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let lookup = |variable: &str| lookup(variable).filter(|value| !value.trim().is_empty());
        let variables = Variables::new(&lookup);
        let path = |variable, default: String| {
            variables.text(variable).map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        let models_dir = path("VIDEOSDGX_MODELS_DIR", "models".to_owned());
        let loras_dir = variables.text("VIDEOSDGX_LORAS_DIR").map(PathBuf::from);
        let listen = variables.text("VIDEOSDGX_LISTEN");
        let reserve_gb = variables.number("VIDEOSDGX_MEMORY_RESERVE_GB", 0.5_f64, 0.0..=10_000.0)?;
        Ok(Self {
            name: name.to_owned(),
            listen: parse_address(
                &listen.unwrap_or_else(|| format!("127.0.0.1:{}", videosdgx_manifest::port(name))),
            )?,
            state_dir: path("VIDEOSDGX_STATE_DIR", format!("state/{name}")),
            loras_dir: loras_dir.unwrap_or_else(|| models_dir.join(name).join("loras")),
            models_dir,
            checkpoint: variables.text("VIDEOSDGX_CHECKPOINT").map(PathBuf::from),
            demo_checkpoint: variables.text("VIDEOSDGX_DEMO_CHECKPOINT").map(PathBuf::from),
            auth: AuthConfig::from_lookup(lookup)?,
            device: variables.choice("VIDEOSDGX_DEVICE")?,
            dtype: variables.choice("VIDEOSDGX_DTYPE")?,
            quantization: variables.choice("VIDEOSDGX_QUANTIZATION")?,
            auto_unload_minutes: variables.number("AUTO_UNLOAD_MINUTES", 30.0, 0.0..=525_600.0)?,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 10¹³, checked above"
            )]
            memory_reserve_bytes: (reserve_gb * 1e9) as u64,
            log_level: variables.text("LOG_LEVEL").unwrap_or_else(|| "info".to_owned()),
            log_format: variables.choice("LOG_FORMAT")?,
            drain: Duration::from_secs_f64(variables.number("DRAIN_SECONDS", 120.0, 0.0..=86_400.0)?),
            heartbeat: Duration::from_secs(15),
            timeouts: TIMEOUTS,
            held_bodies: 256 << 20,
            held_bodies_per_principal: 128 << 20,
        })
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let refuse = |reason: String| ConfigError::Variable { variable: "VIDEOSDGX_LISTEN", reason };
    text.to_socket_addrs()
        .map_err(|error| refuse(format!("an address such as 127.0.0.1:8002, not {text:?} ({error})")))?
        .next()
        .ok_or_else(|| refuse(format!("{text:?} names no address")))
}

impl FromStr for LogFormat {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownChoice::new("log format", text, "text or json")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<ServiceConfig, ConfigError> {
        ServiceConfig::from_lookup("wan21", |name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_is_enough() {
        for config in [config(&[]), config(&[("VIDEOSDGX_LISTEN", ""), ("AUTO_UNLOAD_MINUTES", " ")])] {
            let config = config.unwrap();
            assert_eq!(config.listen.to_string(), "127.0.0.1:8002");
            assert!((config.auto_unload_minutes - 30.0).abs() < f64::EPSILON);
            assert_eq!(config.drain, Duration::from_secs(120));
            assert_eq!(config.state_dir, PathBuf::from("state/wan21"));
            assert_eq!(config.loras_dir, PathBuf::from("models/wan21/loras"));
        }
        let loras = |variable, value| config(&[(variable, value)]).unwrap().loras_dir;
        assert_eq!(loras("VIDEOSDGX_MODELS_DIR", "/m"), PathBuf::from("/m/wan21/loras"));
        assert_eq!(loras("VIDEOSDGX_LORAS_DIR", "/l"), PathBuf::from("/l"));
    }

    #[test]
    fn each_bad_value_names_its_variable() {
        for (variable, value) in [
            ("VIDEOSDGX_LISTEN", "nowhere"),
            ("VIDEOSDGX_LISTEN", "127.0.0.1:99999"),
            ("VIDEOSDGX_DEVICE", "gpu"),
            ("VIDEOSDGX_DEVICE", "cuda:x"),
            ("VIDEOSDGX_DTYPE", "f64"),
            ("VIDEOSDGX_QUANTIZATION", "int3"),
            ("AUTO_UNLOAD_MINUTES", "-1"),
            ("AUTO_UNLOAD_MINUTES", "NaN"),
            ("LOG_FORMAT", "xml"),
            ("DRAIN_SECONDS", "soon"),
            ("VIDEOSDGX_MEMORY_RESERVE_GB", "-2"),
        ] {
            let error = config(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(variable), "{error}");
        }
    }

    #[test]
    fn choices_are_read_whatever_their_case() {
        let config = config(&[("VIDEOSDGX_DEVICE", "CUDA:1"), ("VIDEOSDGX_DTYPE", "BF16")]).unwrap();
        assert_eq!((config.device, config.dtype), (DeviceChoice::Cuda(1), DtypeChoice::Bf16));
    }
}
