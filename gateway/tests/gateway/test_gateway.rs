//! A running gateway and its clients.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use videosdgx_auth::{AuthConfig, Scope, Scopes};
use videosdgx_gateway::{GatewayConfig, ModelConfig, Server};
use videosdgx_testing::{TestClient, mint_token};

use crate::service::Service;

/// A running gateway.
pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) running: Option<JoinHandle<()>>,
}

/// The model `name` at these services.
pub(crate) fn model(name: &str, services: &[&Service]) -> ModelConfig {
    let upstreams = services.iter().map(|service| service.url().parse().unwrap()).collect();
    ModelConfig { name: name.to_owned(), upstreams }
}

impl TestGateway {
    /// A gateway in front of one service of the model `fake`.
    pub(crate) async fn in_front_of(service: &Service) -> Self {
        Self::with(vec![model("fake", &[service])], |_| {}).await
    }

    pub(crate) async fn with(models: Vec<ModelConfig>, change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = GatewayConfig::local(models, AuthConfig::with_dir(folder.path()));
        config.limits.health_seconds = 0.05;
        config.limits.peer_rate = 1_000_000;
        config.limits.principal_rate = 1_000_000;
        change(&mut config);
        let server = Server::start(config).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        let client = TestClient::new(format!("http://{address}"), "").client;
        Self { address, client, folder, stop: Some(stop), running: Some(running) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn token(&self, subject: &str, scopes: impl Into<Scopes>) -> String {
        mint_token(self.folder.path(), subject, &scopes.into().to_string())
    }

    /// A request as `ada`, with all scopes.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(self.token("ada", Scopes::all()))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// A request as `subject` with one scope.
    pub(crate) fn as_of(&self, subject: &str, scope: Scope, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(self.token(subject, [scope]))
    }

    /// Waits until `/ready` answers 200.
    pub(crate) async fn ready(&self) {
        self.eventually("/ready is 200", async || {
            self.client.get(self.url("/ready")).send().await.unwrap().status() == 200
        })
        .await;
    }

    /// Waits at most 10 s until `check` is true.
    pub(crate) async fn eventually(&self, what: &str, mut check: impl AsyncFnMut() -> bool) {
        let wait = async {
            while !check().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Tells the gateway to shut down.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}
