//! A running service and people who talk to it.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Client, Method, RequestBuilder, Response,
    header::{self, HeaderMap},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use videosdgx_auth::{AuthConfig, ExposeSecret as _, KeyFolder, Scopes};
use videosdgx_service::{Running, ServiceConfig, VideoSettings, fake::FakeEngine};

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

    /// Somebody with these scopes.
    pub(crate) fn person(&self, subject: &str, scopes: &str) -> Api {
        let keys = KeyFolder::load_or_create(self.folder.path().join("auth")).unwrap();
        let signer = keys.signer().unwrap();
        let token =
            signer.mint(subject, scopes.parse::<Scopes>().unwrap(), Duration::from_secs(600)).unwrap();
        Api { client: client(), base: self.running.url(), token: token.expose_secret().to_owned() }
    }

    /// Somebody who may do everything.
    pub(crate) fn tester(&self) -> Api {
        self.person("tester", "generate read admin")
    }

    /// Somebody without a token.
    pub(crate) fn stranger(&self) -> Api {
        Api { client: client(), base: self.running.url(), token: String::new() }
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

fn client() -> Client {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The JSON of an answer with this status.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// The code of a problem with this status.
    pub(crate) fn code(&self, status: u16) -> String {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{problem}");
        problem["code"].as_str().unwrap().to_owned()
    }
}

/// Somebody with a token.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) base: String,
    pub(crate) token: String,
}

impl Api {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::of(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn submit(&self, body: Value) -> String {
        let accepted = self.post("/generate", body).await.expect(202);
        accepted["job_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn submit_prompt(&self, prompt: &str) -> String {
        self.submit(json!({ "prompt": prompt })).await
    }

    pub(crate) async fn job(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}")).await.expect(200)
    }

    /// All events of a job, once its stream has ended.
    pub(crate) async fn events(&self, id: &str) -> Vec<Event> {
        parse_events(&self.get(&format!("/jobs/{id}/events")).await.text())
    }

    /// The job after its end.
    pub(crate) async fn finished(&self, id: &str) -> Value {
        self.events(id).await;
        self.job(id).await
    }

    /// Waits until the job is with a worker.
    pub(crate) async fn running(&self, id: &str) {
        let mut response = self.request(Method::GET, &format!("/jobs/{id}/events")).send().await.unwrap();
        let mut text = String::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            text.push_str(&String::from_utf8_lossy(&chunk));
            // The stream begins with what happened earlier: the job itself says whether that still holds.
            if text.contains("\"status\":\"processing\"") && self.job(id).await["status"] == "processing" {
                return;
            }
        }
        panic!("the job never ran: {text}");
    }
}

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) data: Value,
}

pub(crate) fn parse_events(text: &str) -> Vec<Event> {
    text.split("\n\n")
        .filter(|block| block.contains("data:"))
        .map(|block| {
            let mut event = Event::default();
            for line in block.lines() {
                match line.split_once(": ").unwrap() {
                    ("id", id) => event.id = Some(id.parse().unwrap()),
                    ("event", name) => event.name = name.to_owned(),
                    ("data", data) => event.data = serde_json::from_str(data).unwrap(),
                    (field, _) => assert_eq!(field, "retry"),
                }
            }
            event
        })
        .collect()
}
