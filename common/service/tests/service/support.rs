//! A running service and its clients.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use videosdgx_auth::AuthConfig;
use videosdgx_service::{Running, ServiceConfig, VideoSettings, fake::FakeEngine};
use videosdgx_testing::{TestClient, mint_token};

/// A service in a temporary folder.
pub(crate) struct TestService {
    pub(crate) running: Running,
    pub(crate) folder: Arc<TempDir>,
}

/// A folder for a service.
pub(crate) fn folder() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

pub(crate) fn configuration(folder: &TempDir) -> (ServiceConfig, VideoSettings) {
    let mut config = ServiceConfig::from_lookup("fake", |_| None).unwrap();
    config.listen.set_port(0);
    config.state_dir = folder.path().join("state");
    config.auth = AuthConfig::with_dir(folder.path().join("auth"));
    config.drain = Duration::from_secs(5);
    let mut settings = VideoSettings::from_lookup("fake", |_| None).unwrap();
    settings.outputs_dir = folder.path().join("outputs");
    settings.queue.retry_delays = [Duration::from_millis(1); 3];
    (config, settings)
}

/// An engine whose jobs take no time.
pub(crate) fn quick() -> FakeEngine {
    FakeEngine { job_time: Duration::ZERO, load_time: Duration::ZERO, ..FakeEngine::default() }
}

impl TestService {
    pub(crate) async fn start(engine: FakeEngine) -> Self {
        Self::start_in(folder(), engine, |_, _| {}).await
    }

    pub(crate) async fn start_in(
        folder: Arc<TempDir>,
        engine: FakeEngine,
        change: impl FnOnce(&mut ServiceConfig, &mut VideoSettings),
    ) -> Self {
        let (mut config, mut settings) = configuration(&folder);
        change(&mut config, &mut settings);
        let running = Running::start(engine, config, settings).await.unwrap();
        Self { running, folder }
    }

    /// A client with these scopes.
    pub(crate) fn client(&self, subject: &str, scopes: &str) -> TestClient {
        let token = mint_token(&self.folder.path().join("auth"), subject, scopes);
        TestClient::new(self.running.url(), token)
    }

    /// A client with every scope.
    pub(crate) fn tester(&self) -> TestClient {
        self.client("tester", "generate read admin")
    }

    /// A client without a token.
    pub(crate) fn anonymous(&self) -> TestClient {
        TestClient::new(self.running.url(), "")
    }

    pub(crate) fn outputs(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder.path().join("outputs"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// The names of these results and of their previews.
pub(crate) fn files_of(results: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = results
        .iter()
        .flat_map(|result| {
            let (stem, _) = result.rsplit_once('.').unwrap();
            [(*result).to_owned(), format!("{stem}.thumbnail.webp"), format!("{stem}.spritesheet.jpg")]
        })
        .collect();
    names.sort();
    names
}
