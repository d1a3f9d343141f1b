//! Streamed answers, read event by event.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::Api;

/// Longest silence between two events.
const SILENCE: Duration = Duration::from_secs(60);

/// An answer as it comes. Dropping it is leaving.
#[derive(Debug)]
pub struct ChatEvents {
    response: Response,
    buffer: Vec<u8>,
}

/// How a streamed answer came.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Its text.
    pub text: String,
    /// When each piece of it came.
    pub moments: Vec<Instant>,
    /// Why it ended.
    pub finish_reason: Option<String>,
}

impl Api {
    /// Asks `model` for a streamed answer; `more` are further fields. The answer whatever its status.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn ask(&self, model: &str, question: &str, more: &Value) -> Result<Response> {
        let mut body =
            json!({"model": model, "stream": true, "messages": [{"role": "user", "content": question}]});
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        Ok(self.request(Method::POST, "/v1/chat/completions").json(&body).send().await?)
    }

    /// As [`Api::ask`], to be read event by event.
    ///
    /// # Errors
    /// When it is refused.
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
    /// When the stream breaks, falls silent or ends without `[DONE]`.
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
    /// As [`ChatEvents::next`], and when the answer breaks off with an error.
    pub async fn next_text(&mut self) -> Result<Option<String>> {
        while let Some(event) = self.next().await? {
            if event.get("error").is_some() {
                bail!("the answer broke off: {event}");
            }
            if let Some(text) =
                event["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty())
            {
                return Ok(Some(text.to_owned()));
            }
        }
        Ok(None)
    }

    /// Everything to the end.
    ///
    /// # Errors
    /// As [`ChatEvents::next_text`].
    pub async fn rest(mut self) -> Result<Told> {
        let mut told = Told::default();
        while let Some(event) = self.next().await? {
            if event.get("error").is_some() {
                bail!("the answer broke off: {event}");
            }
            let choice = &event["choices"][0];
            if let Some(text) = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
                told.text.push_str(text);
                told.moments.push(Instant::now());
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                told.finish_reason = Some(reason.to_owned());
            }
        }
        Ok(told)
    }
}
