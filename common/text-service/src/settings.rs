//! Configuration of a text service by environment variables, in addition to that of every service.

use std::time::Duration;

use url::Url;
use videosdgx_api::UnknownChoice;
use videosdgx_shell::{ConfigError, Variables, environment};
use videosdgx_text::{EngineConfig, KvCacheSize, PrefixSharing};

/// Configuration of a text service, in addition to [`videosdgx_shell::ServiceConfig`].
///
/// ```
/// use videosdgx_text_service::TextSettings;
///
/// let settings = TextSettings::from_lookup(|variable| {
///     (variable == "VIDEOSDGX_MAX_SEQUENCES").then(|| "8".to_owned())
/// })?;
/// assert_eq!((settings.max_sequences, settings.buffer_size), (8, 100));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TextSettings {
    /// `VIDEOSDGX_MAX_CONTEXT`: maximum number of tokens of prompt and answer together. Default and maximum: the checkpoint's.
    pub max_context: Option<usize>,
    /// `VIDEOSDGX_MAX_SEQUENCES`: maximum number of sequences in a batch; default: 16.
    pub max_sequences: usize,
    /// `VIDEOSDGX_STREAM_QUEUE`: maximum number of waiting requests, further ones get status 429; default: 256.
    pub queue_capacity: usize,
    /// `VIDEOSDGX_STREAM_BUFFER`: events that a stream buffers for a slow reader before it pauses; default: 100.
    pub buffer_size: usize,
    /// `VIDEOSDGX_STREAM_CONCURRENCY`: prompts of one `/stream/generate` that run at once; default: 4.
    pub max_concurrent_requests: usize,
    /// `VIDEOSDGX_PREFILL_CHUNK`: maximum number of prompt tokens in one step; default: 512.
    pub prompt_chunk: usize,
    /// `VIDEOSDGX_KV_CACHE_GB`: size of the KV cache in GB; default: 0.3 of the free memory.
    pub kv_cache: KvCacheSize,
    /// `VIDEOSDGX_PREFIX_SHARING`: which requests share cached prefixes: `principal` (default), `all` or `off`.
    pub prefix_sharing: PrefixSharing,
    /// `VIDEOSDGX_REQUEST_SECONDS`: timeout of requests that do not set one; default: none.
    pub default_deadline: Option<Duration>,
    /// `VIDEOSDGX_TELEMETRY_SAMPLING`: fraction of streams whose single tokens are recorded; default: 1.
    pub telemetry_sampling: f64,
    /// `VIDEOSDGX_CORS_ORIGINS`: origins of web pages that may open WebSockets, besides the service's own origin.
    pub origins: Vec<String>,
    /// `VIDEOSDGX_RESUME_SECONDS`: how long a stream is kept after its client lost the connection; default: 30.
    pub resume: Duration,
    /// `VIDEOSDGX_SOCKET_IDLE_SECONDS`: time after which a WebSocket that does not answer pings is closed; default: 20.
    pub socket_idle: Duration,
    /// `VIDEOSDGX_IMAGE_URLS`: what happens with pictures given by an `https:` URL: `refuse` (default) or `fetch`.
    pub image_urls: ImageUrls,
}

/// Whether pictures are fetched from URLs that clients send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImageUrls {
    /// Only `data:` URIs.
    #[default]
    Refuse,
    /// Also URLs on the public internet.
    Fetch,
}

impl std::str::FromStr for ImageUrls {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "fetch" => Ok(Self::Fetch),
            _ => Err(UnknownChoice::new("handling of image URLs", text, "refuse or fetch")),
        }
    }
}

/// [`PrefixSharing`] as it is written in the configuration.
#[derive(Default)]
struct PrefixSharingName(PrefixSharing);

impl std::str::FromStr for PrefixSharingName {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        Ok(Self(match text {
            "principal" => PrefixSharing::PerPrincipal,
            "all" => PrefixSharing::All,
            "off" => PrefixSharing::Off,
            _ => return Err(UnknownChoice::new("prefix sharing", text, "principal, all or off")),
        }))
    }
}

impl Default for TextSettings {
    fn default() -> Self {
        Self {
            max_context: None,
            max_sequences: 16,
            queue_capacity: 256,
            buffer_size: 100,
            max_concurrent_requests: 4,
            prompt_chunk: 512,
            kv_cache: KvCacheSize::default(),
            prefix_sharing: PrefixSharing::default(),
            default_deadline: None,
            telemetry_sampling: 1.0,
            origins: Vec::new(),
            resume: Duration::from_secs(30),
            socket_idle: Duration::from_secs(15),
            image_urls: ImageUrls::default(),
        }
    }
}

impl TextSettings {
    /// Reads the environment variables.
    ///
    /// # Errors
    /// The first variable with an invalid value.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(environment)
    }

    /// As [`TextSettings::from_env`], with the variables that `lookup` returns; empty values count as not set.
    ///
    /// # Errors
    /// The first variable with an invalid value.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let variables = Variables::new(&lookup);
        let default = Self::default();
        let seconds = |variable, default: Duration, most: f64| {
            variables.number(variable, default.as_secs_f64(), 0.0..=most).map(Duration::from_secs_f64)
        };
        let kv_gb = variables.number("VIDEOSDGX_KV_CACHE_GB", 0.0_f64, 0.0..=10_000.0)?;
        let context = variables.number("VIDEOSDGX_MAX_CONTEXT", 0_usize, 0..=16_777_216)?;
        let deadline = seconds("VIDEOSDGX_REQUEST_SECONDS", Duration::ZERO, 86_400.0)?;
        Ok(Self {
            max_context: Some(context).filter(|context| *context > 0),
            max_sequences: variables.number("VIDEOSDGX_MAX_SEQUENCES", default.max_sequences, 1..=1024)?,
            queue_capacity: variables.number(
                "VIDEOSDGX_STREAM_QUEUE",
                default.queue_capacity,
                1..=100_000,
            )?,
            buffer_size: variables.number("VIDEOSDGX_STREAM_BUFFER", default.buffer_size, 1..=100_000)?,
            max_concurrent_requests: variables.number(
                "VIDEOSDGX_STREAM_CONCURRENCY",
                default.max_concurrent_requests,
                1..=1024,
            )?,
            prompt_chunk: variables.number("VIDEOSDGX_PREFILL_CHUNK", default.prompt_chunk, 16..=65_536)?,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 10¹³, checked above"
            )]
            kv_cache: if kv_gb > 0.0 { KvCacheSize::Bytes((kv_gb * 1e9) as u64) } else { default.kv_cache },
            prefix_sharing: variables.choice::<PrefixSharingName>("VIDEOSDGX_PREFIX_SHARING")?.0,
            default_deadline: Some(deadline).filter(|deadline| !deadline.is_zero()),
            telemetry_sampling: variables.number(
                "VIDEOSDGX_TELEMETRY_SAMPLING",
                default.telemetry_sampling,
                0.0..=1.0,
            )?,
            origins: origins(&variables)?,
            resume: seconds("VIDEOSDGX_RESUME_SECONDS", default.resume, 3600.0)?,
            socket_idle: seconds("VIDEOSDGX_SOCKET_IDLE_SECONDS", default.socket_idle, 3600.0)?
                .max(Duration::from_secs(1)),
            image_urls: variables.choice("VIDEOSDGX_IMAGE_URLS")?,
        })
    }

    /// The engine's configuration for a checkpoint with this maximum context.
    pub(crate) fn engine(&self, model: &str, checkpoint_context: usize) -> EngineConfig {
        let context =
            self.max_context.map_or(checkpoint_context, |configured| configured.min(checkpoint_context));
        let mut config = EngineConfig::new(model, context);
        config.batch.max = self.max_sequences;
        config.queue_capacity = self.queue_capacity;
        config.buffer_size = self.buffer_size;
        config.prompt_chunk = self.prompt_chunk;
        config.kv_cache = self.kv_cache;
        config.default_deadline = self.default_deadline;
        config.prefix_sharing = self.prefix_sharing;
        config
    }
}

/// Origins in the form that browsers send, separated by commas.
fn origins(variables: &Variables<'_>) -> Result<Vec<String>, ConfigError> {
    const VARIABLE: &str = "VIDEOSDGX_CORS_ORIGINS";
    let Some(text) = variables.text(VARIABLE) else { return Ok(Vec::new()) };
    let mut origins = Vec::new();
    for origin in text.split(',').map(str::trim).filter(|origin| !origin.is_empty()) {
        let parsed = Url::parse(origin).ok().filter(Url::has_host);
        if parsed.is_none_or(|url| url.origin().ascii_serialization() != origin) {
            let reason = format!("{origin:?} is not an origin: use https://host or https://host:port");
            return Err(ConfigError::Variable { variable: VARIABLE, reason });
        }
        origins.push(origin.to_owned());
    }
    Ok(origins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<TextSettings, ConfigError> {
        TextSettings::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        assert_eq!(settings(&[]).unwrap(), TextSettings::default());
        assert_eq!(settings(&[("VIDEOSDGX_CORS_ORIGINS", " ")]).unwrap(), TextSettings::default());
    }

    #[test]
    fn the_context_is_limited_by_the_checkpoint() {
        let settings = settings(&[
            ("VIDEOSDGX_MAX_CONTEXT", "4096"),
            ("VIDEOSDGX_MAX_SEQUENCES", "3"),
            ("VIDEOSDGX_KV_CACHE_GB", "0.5"),
            ("VIDEOSDGX_PREFIX_SHARING", "All"),
            ("VIDEOSDGX_CORS_ORIGINS", "https://a.example, http://localhost:3000"),
        ])
        .unwrap();
        let engine = settings.engine("m", 2048);
        assert_eq!((engine.max_context, engine.batch.max), (2048, 3));
        assert_eq!(settings.engine("m", 8192).max_context, 4096);
        assert_eq!(engine.kv_cache, KvCacheSize::Bytes(500_000_000));
        assert_eq!(engine.prefix_sharing, PrefixSharing::All);
        assert_eq!(TextSettings::default().engine("m", 2048).prefix_sharing, PrefixSharing::PerPrincipal);
        assert_eq!(settings.origins, ["https://a.example", "http://localhost:3000"]);
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_variable() {
        for (variable, value) in [
            ("VIDEOSDGX_MAX_CONTEXT", "-1"),
            ("VIDEOSDGX_MAX_SEQUENCES", "0"),
            ("VIDEOSDGX_STREAM_QUEUE", "many"),
            ("VIDEOSDGX_KV_CACHE_GB", "-1"),
            ("VIDEOSDGX_PREFIX_SHARING", "everybody"),
            ("VIDEOSDGX_TELEMETRY_SAMPLING", "1.5"),
            ("VIDEOSDGX_RESUME_SECONDS", "NaN"),
            ("VIDEOSDGX_IMAGE_URLS", "yes"),
            ("VIDEOSDGX_CORS_ORIGINS", "*"),
            ("VIDEOSDGX_CORS_ORIGINS", "https://a.example/path"),
        ] {
            let error = settings(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(variable), "{error}");
        }
    }
}
