//! A running service and its clients.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use reqwest::{
    Client, Method, RequestBuilder, Response,
    header::{self, HeaderMap},
};
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
use videosdgx_auth::{AuthConfig, ExposeSecret as _, KeyFolder, Scopes};
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
        let mut config = ServiceConfig::from_lookup("fake", 0, |_| None).unwrap();
        config.auth = AuthConfig::with_dir(folder.path().join("auth"));
        config.drain = Duration::from_secs(5);
        let mut settings = TextSettings::default();
        let mut backend = FakeBackend::new(&folder.path().join("checkpoint")).unwrap();
        change(TestConfig { config: &mut config, settings: &mut settings, backend: &mut backend });
        let running = Running::start(backend.clone(), config, settings).await.unwrap();
        Self { running, folder, backend }
    }

    /// A client whose token has these scopes.
    pub(crate) fn client(&self, subject: &str, scopes: &str) -> Api {
        let keys = KeyFolder::load_or_create(self.folder.path().join("auth")).unwrap();
        let signer = keys.signer().unwrap();
        let token =
            signer.mint(subject, scopes.parse::<Scopes>().unwrap(), Duration::from_secs(600)).unwrap();
        Api { client: http_client(), base: self.running.url(), token: token.expose_secret().to_owned() }
    }

    /// A client with all scopes.
    pub(crate) fn tester(&self) -> Api {
        self.client("tester", "generate read admin")
    }

    /// A client without a token.
    pub(crate) fn anonymous(&self) -> Api {
        Api { client: http_client(), base: self.running.url(), token: String::new() }
    }
}

fn http_client() -> Client {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

/// A response.
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

    /// The JSON body; the status must be this one.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// `(param, code)` of OpenAI's error object; the status must be this one.
    pub(crate) fn error(&self, status: u16) -> (String, String) {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), "application/json");
        let error = &body["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{body}");
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        (text("param"), text("code"))
    }

    /// The JSON `data:` of the server-sent events, without the final `[DONE]`.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(self.header("content-type").starts_with("text/event-stream"));
        let text = self.text();
        let mut data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"), "{text}");
        data.iter().map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// A client of the API.
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

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    /// A chat of one message, with additional fields.
    pub(crate) async fn chat(&self, message: &str, more: Value) -> Answer {
        self.post("/v1/chat/completions", chat(message, more)).await
    }

    /// A WebSocket with the token in `Authorization`.
    pub(crate) async fn socket(&self) -> Socket {
        self.socket_with(&[("authorization", &format!("Bearer {}", self.token))]).await.unwrap()
    }

    pub(crate) async fn socket_with(&self, headers: &[(&str, &str)]) -> Result<Socket, tungstenite::Error> {
        let mut request = format!("{}/stream", self.base.replacen("http", "ws", 1)).into_client_request()?;
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        let (socket, response) = connect_async(request).await?;
        let protocol = response.headers().get("sec-websocket-protocol");
        Ok(Socket { socket, protocol: protocol.map(|value| value.to_str().unwrap().to_owned()) })
    }

    /// A WebSocket over a connection with a small receive buffer.
    pub(crate) async fn narrow_socket(&self) -> Socket {
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

    /// The engine's state.
    pub(crate) async fn engine(&self) -> Value {
        self.get("/info").await.expect(200)["engine"].clone()
    }

    /// Waits until the engine runs `count` sequences.
    pub(crate) async fn until_running(&self, count: u64) {
        for _ in 0..2000 {
            if self.engine().await["running"] == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never {count} running: {}", self.engine().await);
    }
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
