//! A running service for tests.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use videosdgx_auth::{ExposeSecret as _, KeyFolder, Scopes};
use videosdgx_text_backend::{DecoderBackend, Settings};
use videosdgx_text_service::{Running, ServiceConfig, TextSettings};

/// A text service over HTTP, and a user's token.
pub(crate) struct Service {
    pub(crate) running: Running,
    token: String,
    _folder: TempDir,
}

impl Service {
    /// Serves `checkpoint` in f32.
    pub(crate) async fn start(checkpoint: &Path) -> Self {
        videosdgx_tensor::set_threads(1);
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let variables: HashMap<&str, String> = HashMap::from([
            ("VIDEOSDGX_CHECKPOINT", checkpoint.display().to_string()),
            ("VIDEOSDGX_DTYPE", "f32".to_owned()),
            ("VIDEOSDGX_DEVICE", "cpu".to_owned()),
            ("VIDEOSDGX_AUTH_DIR", path("auth")),
            ("VIDEOSDGX_STATE_DIR", path("state")),
            ("VIDEOSDGX_LISTEN", "127.0.0.1:0".to_owned()),
        ]);
        let config = ServiceConfig::from_lookup("qwen3-vl-2b", |name| variables.get(name).cloned());
        let config = config.expect("a configuration");
        let backend = DecoderBackend::new(Settings::from_config(&config).expect("a device"));
        let running = Running::start(backend, config, TextSettings::default()).await.expect("starts");
        let keys = KeyFolder::load_or_create(folder.path().join("auth")).expect("keys");
        let scopes = "generate read".parse::<Scopes>().expect("scopes");
        let token = keys.signer().expect("a signer").mint("somebody", scopes, Duration::from_secs(600));
        let token = token.expect("mints").expose_secret().to_owned();
        Self { running, token, _folder: folder }
    }

    /// The status and the body of an answer.
    pub(crate) async fn chat(&self, messages: &Value, more: &Value) -> (StatusCode, Value) {
        let mut body = json!({"model": "qwen3-vl-2b", "messages": messages, "max_tokens": 24});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let url = format!("{}/v1/chat/completions", self.running.url());
        let answer =
            Client::new().post(url).bearer_auth(&self.token).json(&body).send().await.expect("answers");
        (answer.status(), answer.json().await.expect("JSON"))
    }
}
