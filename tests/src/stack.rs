//! A gateway with one service behind it, in a temporary folder.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use videosdgx_auth::{ExposeSecret, KeyFolder, Scopes};

use crate::{Api, Process, python::root};

/// The service of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The real Wan 2.1 with the demonstration checkpoint.
    Wan21,
    /// A video service with a fake model: fast, and it crashes if the prompt says so.
    Fake,
    /// The real Qwen3-4B service with the small language model, SmolLM2-135M.
    Text,
    /// A text service with a fake model: fast, or with steps of a configured duration.
    FakeText,
}

impl Service {
    /// Its name in the gateway's routes and in job ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wan21 => "wan21",
            Self::Fake => "fake",
            Self::Text => "qwen3-4b",
            Self::FakeText => "fake-text",
        }
    }

    fn demo_checkpoint(self) -> PathBuf {
        root().join(match self {
            Self::Wan21 | Self::Fake => "checkpoints/demo-shapes",
            Self::Text | Self::FakeText => "checkpoints/smollm2-135m",
        })
    }

    fn program(self) -> &'static str {
        match self {
            Self::Wan21 => "wan21",
            Self::Fake => "fake-video",
            Self::Text => "qwen3-4b",
            Self::FakeText => "fake-text",
        }
    }
}

/// Settings of a stack before it is started.
#[derive(Debug, Clone)]
pub struct StackBuilder {
    service: Service,
    environment: Vec<(String, String)>,
    gateway_environment: Vec<(String, String)>,
}

impl StackBuilder {
    /// Sets an environment variable of the service.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Sets an environment variable of the gateway.
    #[must_use]
    pub fn gateway_env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.gateway_environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the service, then the gateway.
    ///
    /// # Errors
    /// If one of them does not start.
    pub fn start(self) -> Result<Stack> {
        let folder = tempfile::Builder::new().prefix("videosdgx-test-").tempdir()?;
        let service = start_service(&self, folder.path(), "127.0.0.1:0")?;
        let gateway = start_gateway(&self, folder.path(), "127.0.0.1:0", service.url())?;
        Ok(Stack {
            address: service.address().to_owned(),
            service: Some(service),
            gateway,
            folder,
            builder: self,
        })
    }
}

/// A running gateway and service.
#[derive(Debug)]
pub struct Stack {
    service: Option<Process>,
    address: String,
    /// The gateway's process.
    pub gateway: Process,
    folder: TempDir,
    builder: StackBuilder,
}

impl Stack {
    /// Settings of a stack with `service`.
    #[must_use]
    pub fn of(service: Service) -> StackBuilder {
        StackBuilder { service, environment: Vec::new(), gateway_environment: Vec::new() }
    }

    /// The service's process.
    ///
    /// # Errors
    /// If it has been killed and not restarted.
    pub fn service(&self) -> Result<&Process> {
        self.service.as_ref().context("the service is not running")
    }

    /// The service's process, for waiting until it ends.
    ///
    /// # Errors
    /// If it has been killed and not restarted.
    pub fn service_mut(&mut self) -> Result<&mut Process> {
        self.service.as_mut().context("the service is not running")
    }

    /// The temporary folder: `state/`, `outputs/`, `auth/`, `*.log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of finished videos.
    #[must_use]
    pub fn outputs(&self) -> PathBuf {
        self.folder.path().join("outputs")
    }

    /// A token for `subject` with `scopes` (`"generate read"`), minted from the stack's own key folder.
    ///
    /// # Errors
    /// If the key folder cannot be read.
    pub fn token(&self, subject: &str, scopes: &str) -> Result<String> {
        mint(&self.folder.path().join("auth"), subject, scopes)
    }

    /// A client of the gateway, as `tester` with all scopes.
    ///
    /// # Errors
    /// If no token can be made.
    pub fn api(&self) -> Result<Api> {
        Ok(Api::new(self.gateway.url(), self.token("tester", "generate read admin")?))
    }

    /// A client of the service, without the gateway, as `tester` with all scopes.
    ///
    /// # Errors
    /// If no token can be made.
    pub fn service_api(&self) -> Result<Api> {
        Ok(Api::new(format!("http://{}", self.address), self.token("tester", "generate read admin")?))
    }

    /// `/models/<service>`: the prefix of native paths through the gateway.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("/models/{}", self.builder.service.name())
    }

    /// Kills the service with SIGKILL.
    ///
    /// # Errors
    /// If it is not running.
    pub fn kill_service(&mut self) -> Result<()> {
        self.service.take().context("the service is not running")?.kill()
    }

    /// Starts the service again at the same address with the same folders.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart_service(&mut self) -> Result<()> {
        self.service = None;
        self.service = Some(start_service(&self.builder, self.folder.path(), &self.address)?);
        Ok(())
    }
}

fn start_service(builder: &StackBuilder, folder: &Path, listen: &str) -> Result<Process> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut environment: Vec<(String, String)> = [
        ("VIDEOSDGX_LISTEN", listen.to_owned()),
        ("VIDEOSDGX_STATE_DIR", path("state")),
        ("VIDEOSDGX_OUTPUTS_DIR", path("outputs")),
        ("VIDEOSDGX_MODELS_DIR", path("models")),
        ("VIDEOSDGX_AUTH_DIR", path("auth")),
        ("VIDEOSDGX_DEMO_CHECKPOINT", builder.service.demo_checkpoint().display().to_string()),
        ("LOG_LEVEL", "info".to_owned()),
        ("DRAIN_SECONDS", "20".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    environment.extend(builder.environment.iter().cloned());
    Process::start(builder.service.program(), environment, &folder.join("service.log"))
}

fn start_gateway(builder: &StackBuilder, folder: &Path, listen: &str, service_url: &str) -> Result<Process> {
    let mut environment: Vec<(String, String)> = [
        ("VIDEOSDGX_LISTEN", listen.to_owned()),
        ("VIDEOSDGX_UPSTREAMS", format!("{}={service_url}", builder.service.name())),
        ("VIDEOSDGX_AUTH_DIR", folder.join("auth").display().to_string()),
        ("LOG_LEVEL", "info".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    environment.extend(builder.gateway_environment.iter().cloned());
    Process::start("videosdgx-gateway", environment, &folder.join("gateway.log"))
}

fn mint(folder: &Path, subject: &str, scopes: &str) -> Result<String> {
    let scopes: Scopes = scopes.parse()?;
    let keys = KeyFolder::load_or_create(folder)?;
    let signer = keys.signer().context("the key folder cannot sign")?;
    let token = signer.mint(subject, scopes, Duration::from_secs(3600))?;
    Ok(token.expose_secret().to_owned())
}
