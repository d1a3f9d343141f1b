//! Configuration: a TOML file, overridden by environment variables.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use url::Url;
use videosdgx_auth::AuthConfig;
use videosdgx_connection::BodyBudget;

use crate::GatewayError;

/// A model and the services that serve it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The name in paths and in `model`.
    pub name: String,
    /// Base URLs of its services, at least one.
    pub upstreams: Vec<Url>,
}

/// Limits and timeouts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests per second from one address (an IPv6 /64 counts as one), with bursts of twice as many. Default: 500.
    pub peer_rate: u32,
    /// Requests per second of one principal, with bursts of twice as many. Default: 200.
    pub principal_rate: u32,
    /// Open connections. For a further one, the connection that has waited longest for a request is closed, first of the address
    /// with the most connections; if all are answering requests, the new one gets 503. Default: 4,096.
    pub max_connections: usize,
    /// Open connections of one address (an IPv6 /64 counts as one; trusted proxies have no limit of their own). For a further
    /// one, the address's own connection that has waited longest is closed. Default: 3,072.
    pub max_connections_per_address: usize,
    /// Requests in flight, until the last byte of the response; further ones get 503 at once. Default: 2,048.
    pub max_in_flight: usize,
    /// Requests in flight of one client address (an IPv6 /64 counts as one); further ones get 429 at once. Default: 1,024, less than a service
    /// allows the gateway.
    pub max_in_flight_per_address: usize,
    /// Largest request body in bytes. Default: 32 MiB.
    pub max_body_bytes: u64,
    /// Bytes of request bodies that are buffered at once to be routed by the `model` in them; further ones get 503 at
    /// once. Default: 128 MiB.
    pub max_buffered_bytes: u64,
    /// Bytes of [`Limits::max_buffered_bytes`] that one principal may hold; further requests of it get 429. Default: 64 MiB.
    pub max_buffered_bytes_per_principal: u64,
    /// Open WebSockets; further ones get 503 at once. Default: 1,024.
    pub max_sockets: usize,
    /// Open WebSockets of one principal; further ones get 429. Default: 64.
    pub max_sockets_per_principal: usize,
    /// Seconds without a byte in either direction after which a WebSocket is closed. Default: 300.
    pub socket_idle_seconds: f64,
    /// Seconds that a request's header may take from its first byte, and a new connection until that byte. Default: 5.
    pub header_seconds: f64,
    /// Seconds that a connection may be idle between two requests. Default: 60.
    pub idle_seconds: f64,
    /// Seconds of a window in which a request body must come at 16 KiB/s or more, and longest silence within it. Default: 5.
    pub body_window_seconds: f64,
    /// Seconds that a whole request body may take; bodies of lines have no such limit. Default: 300.
    pub body_seconds: f64,
    /// Seconds within which a slow reader must take at least 32 KiB. Default: 20.
    pub write_stall_seconds: f64,
    /// Seconds within which a service must begin its response. Default: 300.
    pub response_seconds: f64,
    /// Seconds within which a connection to a service must be established. Default: 2.
    pub connect_seconds: f64,
    /// Seconds between two health checks of a service. Default: 5.
    pub health_seconds: f64,
    /// Seconds that requests in flight have at shutdown. Default: 120.
    pub drain_seconds: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peer_rate: 500,
            principal_rate: 200,
            max_connections: 4096,
            max_connections_per_address: 3072,
            max_in_flight: 2048,
            max_in_flight_per_address: 1024,
            max_body_bytes: 32 * 1024 * 1024,
            max_buffered_bytes: 128 * 1024 * 1024,
            max_buffered_bytes_per_principal: 64 * 1024 * 1024,
            max_sockets: 1024,
            max_sockets_per_principal: 64,
            socket_idle_seconds: 300.0,
            header_seconds: 5.0,
            idle_seconds: 60.0,
            body_window_seconds: 5.0,
            body_seconds: 300.0,
            write_stall_seconds: 20.0,
            response_seconds: 300.0,
            connect_seconds: 2.0,
            health_seconds: 5.0,
            drain_seconds: 120.0,
        }
    }
}

impl Limits {
    /// The budget of buffered bodies; the largest body always fits.
    pub(crate) fn body_budget(&self) -> Arc<BodyBudget> {
        let bytes = |limit: u64| usize::try_from(limit.max(self.max_body_bytes)).unwrap_or(usize::MAX);
        BodyBudget::new(bytes(self.max_buffered_bytes), bytes(self.max_buffered_bytes_per_principal))
    }
}

/// Configuration of the gateway.
///
/// ```
/// use videosdgx_gateway::GatewayConfig;
///
/// let variables = [("VIDEOSDGX_UPSTREAMS", "wan21=http://127.0.0.1:8002")];
/// let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
/// let config = GatewayConfig::from_lookup(lookup).unwrap();
/// assert_eq!(config.models[0].name, "wan21");
/// assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
/// ```
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Address to listen on; port 0 selects a free port. Default: `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// The models, in the order of their options.
    pub models: Vec<ModelConfig>,
    /// Keys that tokens are verified with.
    pub auth: AuthConfig,
    /// Browser origins that may read responses, for example `https://studio.example`. Default: none.
    pub cors_origins: Vec<String>,
    /// Addresses of proxies whose `X-Forwarded-For` is trusted. Default: none.
    pub trusted_proxies: Vec<IpAddr>,
    /// Limits and timeouts.
    pub limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileConfig {
    listen: Option<String>,
    models: Vec<ModelConfig>,
    cors_origins: Vec<String>,
    trusted_proxies: Vec<IpAddr>,
    limits: Limits,
}

impl GatewayConfig {
    /// A configuration for `models` on a free port of 127.0.0.1, with default limits.
    pub fn local(models: Vec<ModelConfig>, auth: AuthConfig) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            models,
            auth,
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Reads `VIDEOSDGX_CONFIG` and the environment.
    ///
    /// # Errors
    /// When a value cannot be used; the error names it.
    #[expect(clippy::disallowed_methods, reason = "settings are read here")]
    pub fn from_env() -> Result<Self, GatewayError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads variables with a function instead of from the environment. Empty values count as not set.
    ///
    /// # Errors
    /// When a value cannot be used; the error names it.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, GatewayError> {
        let get = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|v| !v.is_empty());
        let file = match get("VIDEOSDGX_CONFIG") {
            Some(path) => read_file(Path::new(&path))?,
            None => FileConfig::default(),
        };
        let listen = get("VIDEOSDGX_LISTEN").or(file.listen).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
        let listen = parse("VIDEOSDGX_LISTEN", &listen, "an address such as 127.0.0.1:8080")?;
        let models = match get("VIDEOSDGX_UPSTREAMS") {
            Some(text) => parse_upstreams(&text)?,
            None => file.models,
        };
        let list = |text: String| -> Vec<String> {
            text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        };
        let cors_origins = get("VIDEOSDGX_CORS_ORIGINS").map_or(file.cors_origins, list);
        let trusted_proxies = match get("VIDEOSDGX_TRUSTED_PROXIES") {
            Some(text) => list(text)
                .iter()
                .map(|ip| parse("VIDEOSDGX_TRUSTED_PROXIES", ip, "a list of IP addresses"))
                .collect::<Result<_, _>>()?,
            None => file.trusted_proxies,
        };
        let mut limits = file.limits;
        let number = "a number above 0";
        let set_u32 = |name: &'static str, field: &mut u32| -> Result<(), GatewayError> {
            get(name).map(|text| parse(name, &text, number).map(|value| *field = value)).unwrap_or(Ok(()))
        };
        let set_seconds = |name: &'static str, field: &mut f64| -> Result<(), GatewayError> {
            get(name).map(|text| parse(name, &text, number).map(|value| *field = value)).unwrap_or(Ok(()))
        };
        set_u32("VIDEOSDGX_PEER_RATE", &mut limits.peer_rate)?;
        set_u32("VIDEOSDGX_PRINCIPAL_RATE", &mut limits.principal_rate)?;
        set_seconds("VIDEOSDGX_RESPONSE_SECONDS", &mut limits.response_seconds)?;
        set_seconds("DRAIN_SECONDS", &mut limits.drain_seconds)?;
        let size = |name: &'static str| get(name).map(|text| parse::<usize>(name, &text, number)).transpose();
        if let Some(value) = size("VIDEOSDGX_MAX_IN_FLIGHT")? {
            limits.max_in_flight = value;
        }
        if let Some(value) = size("VIDEOSDGX_MAX_IN_FLIGHT_PER_ADDRESS")? {
            limits.max_in_flight_per_address = value;
        }
        if let Some(value) = size("VIDEOSDGX_MAX_CONNECTIONS")? {
            limits.max_connections = value;
        }
        if let Some(value) = size("VIDEOSDGX_MAX_CONNECTIONS_PER_ADDRESS")? {
            limits.max_connections_per_address = value;
        }
        if let Some(value) = size("VIDEOSDGX_MAX_SOCKETS")? {
            limits.max_sockets = value;
        }
        if let Some(value) = size("VIDEOSDGX_MAX_SOCKETS_PER_PRINCIPAL")? {
            limits.max_sockets_per_principal = value;
        }
        if let Some(value) = size("VIDEOSDGX_MAX_BODY_BYTES")? {
            limits.max_body_bytes = value as u64;
        }
        let auth = AuthConfig::from_lookup(get)?;
        let config = Self { listen, models, auth, cors_origins, trusted_proxies, limits };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), GatewayError> {
        let mut names = BTreeSet::new();
        for model in &self.models {
            let name = &model.name;
            let allowed =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
            if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) || name.starts_with('.') {
                return Err(invalid(
                    "models",
                    format!("`{name}` is not a model name: use a-z, 0-9, `-`, `_`, `.`"),
                ));
            }
            if !names.insert(name) {
                return Err(invalid("models", format!("`{name}` is configured twice")));
            }
            if model.upstreams.is_empty() {
                return Err(invalid("models", format!("`{name}` has no upstream")));
            }
            for url in &model.upstreams {
                let plain = url.username().is_empty() && url.password().is_none();
                let bare = url.query().is_none() && url.fragment().is_none();
                if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain || !bare {
                    return Err(invalid("models", format!("`{name}`: an upstream is http(s)://host:port")));
                }
            }
        }
        for origin in &self.cors_origins {
            let parsed = Url::parse(origin).ok().filter(|url| url.has_host());
            if parsed.is_none_or(|url| url.origin().ascii_serialization() != *origin) {
                let reason = format!("`{origin}` is not an origin: use https://host or https://host:port");
                return Err(invalid("VIDEOSDGX_CORS_ORIGINS", reason));
            }
        }
        let limits = &self.limits;
        let seconds = [
            limits.header_seconds,
            limits.idle_seconds,
            limits.body_window_seconds,
            limits.body_seconds,
            limits.write_stall_seconds,
            limits.response_seconds,
            limits.connect_seconds,
            limits.health_seconds,
            limits.drain_seconds,
            limits.socket_idle_seconds,
        ];
        let counts = [u64::from(limits.peer_rate), u64::from(limits.principal_rate), limits.max_body_bytes];
        let sizes = [
            limits.max_connections,
            limits.max_connections_per_address,
            limits.max_in_flight,
            limits.max_in_flight_per_address,
            limits.max_sockets,
            limits.max_sockets_per_principal,
        ];
        if seconds.iter().any(|s| !(*s > 0.0 && *s <= 86_400.0)) || counts.contains(&0) || sizes.contains(&0)
        {
            return Err(invalid("limits", "limits must be above 0, and times at most 86,400 seconds"));
        }
        Ok(())
    }
}

/// A time of [`Limits`] as a duration: `0 < seconds ≤ 86,400`, as checked at start.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1))
}

fn read_file(path: &Path) -> Result<FileConfig, GatewayError> {
    let name = path.display().to_string();
    config::Config::builder()
        .add_source(config::File::from(path).format(config::FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| invalid(name, error.to_string()))
}

/// `wan21=http://a:8000|http://b:8000,ltx2=http://c:8000`. The name `*` stands for every service of `services/manifest.toml` that is not
/// named itself; `*` in its address is the service's name: `*=http://*:8000`.
fn parse_upstreams(text: &str) -> Result<Vec<ModelConfig>, GatewayError> {
    const NAME: &str = "VIDEOSDGX_UPSTREAMS";
    let model = |name: &str, urls: &str| {
        let upstreams = urls
            .split('|')
            .map(|url| parse(NAME, url.trim(), "a URL such as http://host:port"))
            .collect::<Result<_, GatewayError>>()?;
        Ok::<_, GatewayError>(ModelConfig { name: name.to_owned(), upstreams })
    };
    let entries = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, urls) = part
                .split_once('=')
                .ok_or_else(|| invalid(NAME, format!("`{part}`: write name=http://host:port")))?;
            Ok((name.trim(), urls))
        })
        .collect::<Result<Vec<_>, GatewayError>>()?;
    let named = |name: &str| entries.iter().any(|(other, _)| *other == name);
    let mut models = Vec::new();
    for (name, urls) in &entries {
        if *name == "*" {
            let others = videosdgx_manifest::services().iter().filter(|service| !named(&service.name));
            for service in others {
                models.push(model(&service.name, &urls.replace('*', &service.name))?);
            }
        } else {
            models.push(model(name, urls)?);
        }
    }
    Ok(models)
}

fn parse<T: std::str::FromStr>(name: &'static str, text: &str, expected: &str) -> Result<T, GatewayError> {
    text.parse().map_err(|_| invalid(name, format!("`{text}` is not {expected}")))
}

fn invalid(name: impl Into<String>, reason: impl Into<String>) -> GatewayError {
    GatewayError::Configuration { name: name.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<GatewayConfig, GatewayError> {
        GatewayConfig::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn upstreams_are_read_from_one_variable() {
        let config =
            read(&[("VIDEOSDGX_UPSTREAMS", "wan21=http://a:8000|http://b:8000, ltx2=http://c:1")]).unwrap();
        assert_eq!(config.models.len(), 2);
        assert_eq!(config.models[0].name, "wan21");
        assert_eq!(config.models[0].upstreams.len(), 2);
        assert_eq!(config.listen.port(), 8080);
    }

    #[test]
    fn a_star_stands_for_every_service_of_the_manifest() {
        let config =
            read(&[("VIDEOSDGX_UPSTREAMS", "*=http://*:8000,wan21=http://a:1,own=http://b:2")]).unwrap();
        assert_eq!(config.models.len(), videosdgx_manifest::services().len() + 1);
        let address = |name: &str| {
            let model = config.models.iter().find(|model| model.name == name).unwrap();
            model.upstreams[0].as_str()
        };
        assert_eq!(address("qwen3-4b"), "http://qwen3-4b:8000/");
        assert_eq!(address("wan21"), "http://a:1/");
        assert_eq!(address("own"), "http://b:2/");
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let text = "listen = \"0.0.0.0:9000\"\ncors_origins = [\"https://a.example\"]\n[limits]\npeer_rate = 7\n\
                    [[models]]\nname = \"wan21\"\nupstreams = [\"http://127.0.0.1:8002\"]\n";
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let config = read(&[("VIDEOSDGX_CONFIG", path), ("VIDEOSDGX_LISTEN", "127.0.0.1:0")]).unwrap();
        assert_eq!((config.listen.port(), config.limits.peer_rate), (0, 7));
        assert_eq!(config.models[0].upstreams[0].as_str(), "http://127.0.0.1:8002/");
        assert_eq!(config.cors_origins, ["https://a.example"]);
        std::fs::write(path, text.replace("peer_rate", "pear_rate")).unwrap();
        let error = read(&[("VIDEOSDGX_CONFIG", path)]).unwrap_err().to_string();
        assert!(error.contains("pear_rate"), "{error}");
    }

    #[test]
    fn errors_name_the_variable() {
        for (name, value) in [
            ("VIDEOSDGX_LISTEN", "here"),
            ("VIDEOSDGX_UPSTREAMS", "wan21"),
            ("VIDEOSDGX_UPSTREAMS", "wan21=ftp://a"),
            ("VIDEOSDGX_UPSTREAMS", "a/b=http://a:1"),
            ("VIDEOSDGX_UPSTREAMS", "..=http://a:1"),
            ("VIDEOSDGX_UPSTREAMS", "a=http://a:1,a=http://b:1"),
            ("VIDEOSDGX_UPSTREAMS", "a=http://user:secret@a:1"),
            ("VIDEOSDGX_CORS_ORIGINS", "*"),
            ("VIDEOSDGX_CORS_ORIGINS", "https://a.example/"),
            ("VIDEOSDGX_TRUSTED_PROXIES", "everybody"),
            ("VIDEOSDGX_PEER_RATE", "0"),
            ("VIDEOSDGX_PRINCIPAL_RATE", "-1"),
            ("DRAIN_SECONDS", "NaN"),
            ("VIDEOSDGX_CONFIG", "/nowhere/gateway.toml"),
        ] {
            let error = read(&[(name, value)]).expect_err(value).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
