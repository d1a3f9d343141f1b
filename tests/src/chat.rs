//! Streamed chat completions, read event by event.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::Api;

/// Longest silence between two events.
const SILENCE: Duration = Duration::from_secs(60);

/// A streamed response. Dropping it closes the connection.
#[derive(Debug)]
pub struct ChatEvents {
    response: Response,
    buffer: Vec<u8>,
}

/// The text of a streamed response and when it arrived.
#[derive(Debug, Clone, Default)]
pub struct StreamedText {
    /// All text.
    pub text: String,
    /// Arrival of each piece of text.
    pub moments: Vec<Instant>,
    /// `finish_reason` of the last event.
    pub finish_reason: Option<String>,
}

impl Api {
    /// Sends a streaming chat completion request with the further fields `more`; returns the response whatever its status.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn ask(&self, model: &str, question: &str, more: &Value) -> Result<Response> {
        let mut body =
            json!({"model": model, "stream": true, "messages": [{"role": "user", "content": question}]});
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        Ok(self.request(Method::POST, "/v1/chat/completions").json(&body).send().await?)
    }

    /// As [`Api::ask`], for reading event by event.
    ///
    /// # Errors
    /// If the status is not 200.
    pub async fn chat(&self, model: &str, question: &str, more: &Value) -> Result<ChatEvents> {
        let response = self.ask(model, question, more).await?;
        if response.status() != 200 {
            bail!("{}: {}", response.status(), response.text().await?);
        }
        Ok(ChatEvents { response, buffer: Vec::new() })
    }
}

impl ChatEvents {
    /// The data of the next event; `None` after `[DONE]`.
    ///
    /// # Errors
    /// If the stream breaks, sends nothing for a minute or ends without `[DONE]`.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let event = String::from_utf8(event)?;
                let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
                return if data == "[DONE]" { Ok(None) } else { Ok(Some(serde_json::from_str(data)?)) };
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk()).await.context("silence")??;
            self.buffer.extend_from_slice(&chunk.context("the stream ended without [DONE]")?);
        }
    }

    /// The next piece of text; `None` at the end.
    ///
    /// # Errors
    /// As [`ChatEvents::next`], and if the stream ends with an error event.
    pub async fn next_text(&mut self) -> Result<Option<String>> {
        while let Some(event) = self.next().await? {
            if event.get("error").is_some() {
                bail!("the stream ended with an error: {event}");
            }
            if let Some(text) =
                event["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty())
            {
                return Ok(Some(text.to_owned()));
            }
        }
        Ok(None)
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// As [`ChatEvents::next_text`].
    pub async fn rest(mut self) -> Result<StreamedText> {
        let mut received = StreamedText::default();
        while let Some(event) = self.next().await? {
            if event.get("error").is_some() {
                bail!("the stream ended with an error: {event}");
            }
            let choice = &event["choices"][0];
            if let Some(text) = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
                received.text.push_str(text);
                received.moments.push(Instant::now());
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                received.finish_reason = Some(reason.to_owned());
            }
        }
        Ok(received)
    }
}
