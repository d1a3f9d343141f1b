//! Configuration of a text service by environment, beside that of every service.

use std::time::Duration;

use url::Url;
use videosdgx_api::UnknownChoice;
use videosdgx_shell::{ConfigError, Variables, environment};
use videosdgx_text::{EngineConfig, KvCacheSize, PrefixSharing};

/// What a text service is told from outside, beside [`videosdgx_shell::ServiceConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct TextSettings {
    /// `VIDEOSDGX_MAX_CONTEXT`: most tokens of prompt and answer together; the checkpoint's own unless told, never more.
    pub max_context: Option<usize>,
    /// `VIDEOSDGX_MAX_SEQUENCES`: most sequences that are computed together, 16.
    pub max_sequences: usize,
    /// `VIDEOSDGX_STREAM_QUEUE`: most requests that wait; one more is answered with 429. 256.
    pub queue_capacity: usize,
    /// `VIDEOSDGX_STREAM_BUFFER`: events that a stream holds for a slow reader before it pauses, 100.
    pub buffer_size: usize,
    /// `VIDEOSDGX_STREAM_CONCURRENCY`: prompts of one `/stream/generate` that are under way at once, 4.
    pub max_concurrent_requests: usize,
    /// `VIDEOSDGX_PREFILL_CHUNK`: most prompt tokens in one step, 512.
    pub prompt_chunk: usize,
    /// `VIDEOSDGX_KV_CACHE_GB`: bytes of the KV cache; 0.3 of what is free unless told.
    pub kv_cache: KvCacheSize,
    /// `VIDEOSDGX_PREFIX_SHARING`: `everybody`, `principal` or `nobody`.
    pub prefix_sharing: PrefixSharing,
    /// `VIDEOSDGX_REQUEST_SECONDS`: deadline of requests that name none; none unless told.
    pub default_deadline: Option<Duration>,
    /// `VIDEOSDGX_TELEMETRY_SAMPLING`: share of streams whose tokens are recorded one by one, 1.
    pub telemetry_sampling: f64,
    /// `VIDEOSDGX_CORS_ORIGINS`: origins of browser pages that may open WebSockets here; pages of the service's own may always.
    pub origins: Vec<String>,
    /// `VIDEOSDGX_RESUME_SECONDS`: how long tokens are kept for a client that lost its connection, 30.
    pub resume: Duration,
    /// `VIDEOSDGX_SOCKET_IDLE_SECONDS`: a WebSocket that does not even answer pings is closed after so long, 60.
    pub socket_idle: Duration,
    /// `VIDEOSDGX_IMAGE_URLS`: `refuse` or `fetch` pictures that are named by an `https:` address.
    pub image_urls: ImageUrls,
}

/// Whether pictures are fetched from addresses that clients name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImageUrls {
    /// Only `data:` URIs.
    #[default]
    Refuse,
    /// Addresses on the public internet too.
    Fetch,
}

impl std::str::FromStr for ImageUrls {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "fetch" => Ok(Self::Fetch),
            _ => Err(UnknownChoice::new("answer to image URLs", text, "refuse or fetch")),
        }
    }
}

/// [`PrefixSharing`] as a word.
#[derive(Default)]
struct PrefixSharingName(PrefixSharing);

impl std::str::FromStr for PrefixSharingName {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        Ok(Self(match text {
            "everybody" => PrefixSharing::All,
            "principal" => PrefixSharing::PerPrincipal,
            "nobody" => PrefixSharing::Off,
            _ => {
                return Err(UnknownChoice::new(
                    "sharing of prefixes",
                    text,
                    "everybody, principal or nobody",
                ));
            }
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
            socket_idle: Duration::from_secs(60),
            image_urls: ImageUrls::default(),
        }
    }
}

impl TextSettings {
    /// Reads the environment.
    ///
    /// # Errors
    /// The first variable with a bad value.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(environment)
    }

    /// As [`TextSettings::from_env`] with the variables that `lookup` knows; empty ones count as not set.
    ///
    /// # Errors
    /// The first variable with a bad value.
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

    /// The engine's settings for a checkpoint with this context.
    pub(crate) fn engine(&self, model: &str, checkpoint_context: usize) -> EngineConfig {
        let context = self.max_context.map_or(checkpoint_context, |told| told.min(checkpoint_context));
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

/// Origins as browsers write them, separated by commas.
fn origins(variables: &Variables<'_>) -> Result<Vec<String>, ConfigError> {
    const VARIABLE: &str = "VIDEOSDGX_CORS_ORIGINS";
    let Some(text) = variables.text(VARIABLE) else { return Ok(Vec::new()) };
    let mut origins = Vec::new();
    for origin in text.split(',').map(str::trim).filter(|origin| !origin.is_empty()) {
        let parsed = Url::parse(origin).ok().filter(Url::has_host);
        if parsed.is_none_or(|url| url.origin().ascii_serialization() != origin) {
            let reason = format!("{origin:?} is no origin: write https://host or https://host:port");
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
    fn an_empty_environment_is_enough() {
        assert_eq!(settings(&[]).unwrap(), TextSettings::default());
        assert_eq!(settings(&[("VIDEOSDGX_CORS_ORIGINS", " ")]).unwrap(), TextSettings::default());
    }

    #[test]
    fn what_is_told_is_used_and_a_context_is_never_longer_than_the_checkpoints() {
        let settings = settings(&[
            ("VIDEOSDGX_MAX_CONTEXT", "4096"),
            ("VIDEOSDGX_MAX_SEQUENCES", "3"),
            ("VIDEOSDGX_KV_CACHE_GB", "0.5"),
            ("VIDEOSDGX_PREFIX_SHARING", "Principal"),
            ("VIDEOSDGX_CORS_ORIGINS", "https://a.example, http://localhost:3000"),
        ])
        .unwrap();
        let engine = settings.engine("m", 2048);
        assert_eq!((engine.max_context, engine.batch.max), (2048, 3));
        assert_eq!(settings.engine("m", 8192).max_context, 4096);
        assert_eq!(engine.kv_cache, KvCacheSize::Bytes(500_000_000));
        assert_eq!(engine.prefix_sharing, PrefixSharing::PerPrincipal);
        assert_eq!(settings.origins, ["https://a.example", "http://localhost:3000"]);
    }

    #[test]
    fn each_bad_value_names_its_variable() {
        for (variable, value) in [
            ("VIDEOSDGX_MAX_CONTEXT", "-1"),
            ("VIDEOSDGX_MAX_SEQUENCES", "0"),
            ("VIDEOSDGX_STREAM_QUEUE", "many"),
            ("VIDEOSDGX_KV_CACHE_GB", "-1"),
            ("VIDEOSDGX_PREFIX_SHARING", "friends"),
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
