use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Instant;

use videosdgx_api::openai::{ChatRequest, FinishReason, Usage};
use videosdgx_client::Client;

use crate::failure::{Exit, Failure};

/// How a streamed answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Completely.
    Whole,
    /// Interrupted by Ctrl-C.
    Interrupted,
}

/// Prints a streamed answer: content on standard output, reasoning dimmed on standard error if that is a terminal.
pub(super) struct Answer {
    text: String,
    asked: Instant,
    first: Option<Instant>,
    last: Instant,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
    is_terminal: bool,
    is_thinking: bool,
}

impl Answer {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            text: String::new(),
            asked: now,
            first: None,
            last: now,
            usage: None,
            finish: None,
            is_terminal: std::io::stdout().is_terminal(),
            is_thinking: false,
        }
    }

    /// Sends the request and prints the answer until its end.
    pub(super) async fn receive(&mut self, client: &Client, request: &ChatRequest) -> Result<(), Failure> {
        let mut stream = client.chat_stream(request).await?;
        while let Some(chunk) = stream.next().await? {
            self.usage = chunk.usage.flatten().or(self.usage);
            for choice in chunk.choices {
                self.finish = choice.finish_reason.or(self.finish);
                if let Some(thought) = choice.delta.reasoning_content.filter(|text| !text.is_empty()) {
                    self.tick();
                    self.think(&thought);
                }
                if let Some(content) = choice.delta.content.flatten().filter(|text| !text.is_empty()) {
                    self.tick();
                    self.say(&content)?;
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
    }

    fn say(&mut self, content: &str) -> Result<(), Failure> {
        self.end_thoughts();
        self.text.push_str(content);
        let shown = if self.is_terminal { without_controls(content) } else { content.to_owned() };
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(shown.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::new(Exit::Local, "standard output was closed"),
            _ => Failure::new(Exit::Local, format!("cannot write the answer: {error}")),
        })
    }

    fn think(&mut self, thought: &str) {
        if std::io::stderr().is_terminal() {
            let dim = if std::mem::replace(&mut self.is_thinking, true) { "" } else { "\u{1b}[2m" };
            eprint!("{dim}{}", without_controls(thought));
        }
    }

    fn end_thoughts(&mut self) {
        if std::mem::take(&mut self.is_thinking) {
            eprintln!("\u{1b}[0m\n");
        }
    }

    /// Prints the end of the last line.
    pub(super) fn finish(&mut self) {
        self.end_thoughts();
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            let mut stdout = std::io::stdout().lock();
            // A closed standard output is not an error here.
            let _ = stdout.write_all(b"\n").and_then(|()| stdout.flush());
        }
        if self.finish == Some(FinishReason::Length) {
            eprintln!("(cut off at the largest number of tokens; see --max-tokens)");
        }
    }

    /// `31 tokens, the first after 84 ms, then 96.3 per second`
    pub(super) fn statistics(&self) -> String {
        let (Some(first), Some(usage)) = (self.first, self.usage) else { return "no tokens".to_owned() };
        let wait = first.duration_since(self.asked).as_millis();
        let seconds = self.last.duration_since(first).as_secs_f64();
        let mut line = format!("{} tokens, the first after {wait} ms", usage.completion_tokens);
        // An answer that arrived at once has no rate.
        if usage.completion_tokens > 1 && seconds > 0.02 {
            #[expect(clippy::cast_precision_loss, reason = "an answer has less than 2⁵² tokens")]
            let rate = (usage.completion_tokens - 1) as f64 / seconds;
            line.push_str(&format!(", then {rate:.1} per second"));
        }
        line
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// Removes control characters, which would move a terminal's cursor or change its state.
fn without_controls(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_removed() {
        assert_eq!(without_controls("a\u{1b}[2Jb\n\tc\u{7}\u{9b}é\r"), "a[2Jb\n\tcé");
    }
}
