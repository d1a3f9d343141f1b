use reqwest::{
    Response,
    header::{AsHeaderName, HeaderMap},
};
use serde_json::Value;

/// A complete response. Its methods panic with the body if it is not as expected.
#[derive(Debug)]
pub struct TestResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl TestResponse {
    /// Reads the body of `response`.
    ///
    /// # Panics
    /// If the body is cut off.
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.expect("a complete body").to_vec() }
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header; empty if it is absent.
    ///
    /// # Panics
    /// If it is not ASCII.
    #[must_use]
    pub fn header(&self, name: impl AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("an ASCII header"))
    }

    /// The JSON of a response with this status.
    ///
    /// # Panics
    /// If the status is another one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// The code of a problem document with this status.
    ///
    /// # Panics
    /// If it is not a problem document with this status and the request's id.
    #[track_caller]
    pub fn code(&self, status: u16) -> String {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{problem}");
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    /// `(param, code)` of OpenAI's error object with this status.
    ///
    /// # Panics
    /// If it is not such an object with this status.
    #[track_caller]
    pub fn error(&self, status: u16) -> (String, String) {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), "application/json");
        let error = &body["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{body}");
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        (text("param"), text("code"))
    }

    /// The JSON of each `data:` of an OpenAI event stream, without the last, `[DONE]`.
    ///
    /// # Panics
    /// If it is not a complete event stream.
    #[track_caller]
    pub fn chunks(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(self.header("content-type").starts_with("text/event-stream"));
        let text = self.text();
        let mut data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"), "{text}");
        data.iter().map(|data| serde_json::from_str(data).expect("JSON")).collect()
    }
}
