use std::collections::VecDeque;

use reqwest::{Method, Response, header};
use serde_json::Value;
use videosdgx_api::openai::{ChatChunk, ChatRequest, StreamOptions};

use crate::{Client, ClientError, sse::SseParser};

/// Data of the last event of a complete stream.
const DONE: &str = "[DONE]";

/// A streamed answer. Dropping it cancels the generation at the server.
pub struct ChatStream {
    response: Response,
    parser: SseParser,
    chunks: VecDeque<ChatChunk>,
    is_done: bool,
}

impl std::fmt::Debug for ChatStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatStream").field("is_done", &self.is_done).finish_non_exhaustive()
    }
}

impl Client {
    /// `POST /v1/chat/completions` as a stream, with the usage in its last chunk. Not retried when the connection fails.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn chat_stream(&self, request: &ChatRequest) -> Result<ChatStream, ClientError> {
        let options =
            StreamOptions { include_usage: Some(true), ..request.stream_options.unwrap_or_default() };
        let request = ChatRequest { stream: Some(true), stream_options: Some(options), ..request.clone() };
        let call = self
            .slow_request(Method::POST, &["v1", "chat", "completions"])?
            .header(header::ACCEPT, "text/event-stream")
            .json(&request);
        let response = self.send(call).await?;
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(|content_type| content_type.starts_with("text/event-stream")) {
            return Err(ClientError::unreadable("it is not an event stream"));
        }
        Ok(ChatStream { response, parser: SseParser::default(), chunks: VecDeque::new(), is_done: false })
    }
}

impl ChatStream {
    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// [`ClientError::CutOff`] if the server ended the stream, [`ClientError::Broken`] if the connection failed.
    pub async fn next(&mut self) -> Result<Option<ChatChunk>, ClientError> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Ok(Some(chunk));
            }
            if self.is_done {
                return Ok(None);
            }
            let Some(bytes) = self.response.chunk().await.map_err(ClientError::transport)? else {
                let host = crate::error::host_of(self.response.url());
                let reason = "the answer ended early".to_owned();
                return Err(ClientError::Broken { host, reason, source: None });
            };
            for event in self.parser.push(&bytes).map_err(ClientError::unreadable)? {
                if event.data == DONE {
                    self.is_done = true;
                    break;
                }
                let value: Value = serde_json::from_str(&event.data).map_err(ClientError::unreadable)?;
                if let Some(error) = value.get("error") {
                    if error["recoverable"] == true {
                        continue;
                    }
                    return Err(cut_off(error));
                }
                self.chunks.push_back(serde_json::from_value(value).map_err(ClientError::unreadable)?);
            }
        }
    }
}

/// The error event of a stream.
fn cut_off(error: &Value) -> ClientError {
    let text = |name: &str| error[name].as_str().map(str::to_owned);
    ClientError::CutOff {
        code: text("code").or_else(|| text("type")).unwrap_or_else(|| "unknown".to_owned()),
        message: text("message").unwrap_or_else(|| "no reason was given".to_owned()),
    }
}
