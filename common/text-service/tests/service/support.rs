//! A running service and its clients.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async, connect_async,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        http::{HeaderName, HeaderValue},
        protocol::frame::coding::CloseCode,
    },
};
use videosdgx_auth::AuthConfig;
use videosdgx_testing::{TestClient, TestResponse, mint_token};
use videosdgx_text_service::{Running, ServiceConfig, TextSettings, fake::FakeBackend};

/// A service with its files in a temporary folder.
pub(crate) struct TestService {
    pub(crate) running: Running,
    pub(crate) folder: TempDir,
    pub(crate) backend: FakeBackend,
}

/// The configuration of a service, for a test to change.
pub(crate) struct TestConfig<'a> {
    pub(crate) config: &'a mut ServiceConfig,
    pub(crate) settings: &'a mut TextSettings,
    pub(crate) backend: &'a mut FakeBackend,
}

impl TestService {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(TestConfig<'_>)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = ServiceConfig::from_lookup("fake", |_| None).unwrap();
        config.listen.set_port(0);
        config.auth = AuthConfig::with_dir(folder.path().join("auth"));
        config.drain = Duration::from_secs(5);
        let mut settings = TextSettings::default();
        let mut backend = FakeBackend::new(&folder.path().join("checkpoint")).unwrap();
        change(TestConfig { config: &mut config, settings: &mut settings, backend: &mut backend });
        let running = Running::start(backend.clone(), config, settings).await.unwrap();
        Self { running, folder, backend }
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
}

/// Requests of a text service's tests.
pub(crate) trait TextClient {
    /// A chat of one message, with additional fields.
    async fn chat(&self, message: &str, more: Value) -> TestResponse;

    /// A WebSocket with the token in `Authorization`.
    async fn socket(&self) -> Socket;

    async fn socket_with(&self, headers: &[(&str, &str)]) -> Result<Socket, tungstenite::Error>;

    /// A WebSocket over a connection with a small receive buffer.
    async fn narrow_socket(&self) -> Socket;

    /// The engine's state.
    async fn engine(&self) -> Value;

    /// Waits until the engine runs `count` sequences.
    async fn until_running(&self, count: u64);

    /// Waits until `count` sequences wait for their turn.
    async fn until_waiting(&self, count: u64);
}

impl TextClient for TestClient {
    async fn chat(&self, message: &str, more: Value) -> TestResponse {
        self.post("/v1/chat/completions", chat(message, more)).await
    }

    async fn socket(&self) -> Socket {
        self.socket_with(&[("authorization", &format!("Bearer {}", self.token))]).await.unwrap()
    }

    async fn socket_with(&self, headers: &[(&str, &str)]) -> Result<Socket, tungstenite::Error> {
        let mut request = format!("{}/stream", self.base.replacen("http", "ws", 1)).into_client_request()?;
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        let (socket, response) = connect_async(request).await?;
        let protocol = response.headers().get("sec-websocket-protocol");
        Ok(Socket { socket, protocol: protocol.map(|value| value.to_str().unwrap().to_owned()) })
    }

    async fn narrow_socket(&self) -> Socket {
        let mut request =
            format!("{}/stream", self.base.replacen("http", "ws", 1)).into_client_request().unwrap();
        let token = HeaderValue::from_str(&format!("Bearer {}", self.token)).unwrap();
        request.headers_mut().insert("authorization", token);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream =
            socket.connect(self.base.strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap();
        let (socket, _) = client_async(request, MaybeTlsStream::Plain(stream)).await.unwrap();
        Socket { socket, protocol: None }
    }

    async fn engine(&self) -> Value {
        self.get("/info").await.expect(200)["engine"].clone()
    }

    async fn until_running(&self, count: u64) {
        until(self, "running", count).await;
    }

    async fn until_waiting(&self, count: u64) {
        until(self, "waiting", count).await;
    }
}

/// Waits until the engine reports `count` sequences in this state.
async fn until(client: &TestClient, state: &str, count: u64) {
    for _ in 0..2000 {
        if client.engine().await[state] == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never {count} {state}: {}", client.engine().await);
}

/// A chat request of one message.
pub(crate) fn chat(message: &str, more: Value) -> Value {
    let mut body =
        json!({"model": "fake", "messages": [{"role": "user", "content": message}], "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A WebSocket.
pub(crate) struct Socket {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) protocol: Option<String>,
}

impl Socket {
    pub(crate) async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next frame except pings and pongs.
    pub(crate) async fn frame(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(30), self.socket.next()).await.unwrap();
            match next.unwrap().unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                frame => return frame,
            }
        }
    }

    pub(crate) async fn hear(&mut self) -> Value {
        match self.frame().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The messages up to and including the next one of this type.
    pub(crate) async fn hear_until(&mut self, kind: &str) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            let message = self.hear().await;
            let last = message["type"] == kind;
            heard.push(message);
            if last {
                return heard;
            }
        }
    }

    /// The close code; earlier messages are skipped.
    pub(crate) async fn closed(&mut self) -> CloseCode {
        loop {
            if let Message::Close(frame) = self.frame().await {
                return frame.unwrap().code;
            }
        }
    }
}

/// The concatenated texts of the `token` messages.
pub(crate) fn text_of(messages: &[Value]) -> String {
    messages
        .iter()
        .filter(|message| message["type"] == "token")
        .map(|message| message["token"]["text"].as_str().unwrap())
        .collect()
}
