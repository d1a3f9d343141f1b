//! A call written as JSON: `{"name": "f", "arguments": {…}}`.

use serde_json::Value;

use super::json::{JsonScanner, Step};
use super::output::CallSink;

/// Reads what stands between `<tool_call>` and `</tool_call>`.
#[derive(Debug, Clone)]
pub(super) struct HermesCall {
    state: State,
    name: Option<String>,
    /// Arguments that came before the name, or whose text is not whole.
    waiting: String,
    arguments: bool,
}

#[derive(Debug, Clone)]
enum State {
    Start,
    KeyOrEnd,
    Key(String),
    Colon(Member),
    Value(Member, JsonScanner, String),
    /// The object ended; what follows is of no interest.
    Done,
    /// This is no call.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Name,
    Arguments,
    /// Arguments as a string that holds JSON.
    Quoted,
    Other,
}

impl HermesCall {
    pub(super) fn new() -> Self {
        Self { state: State::Start, name: None, waiting: String::new(), arguments: false }
    }

    /// Inside of a string, where a closing tag is a part of it.
    pub(super) fn in_text(&self) -> bool {
        matches!(&self.state, State::Value(_, scanner, _) if scanner.in_text())
    }

    pub(super) fn step(&mut self, character: char, sink: &mut CallSink) {
        let blank = character.is_ascii_whitespace();
        match &mut self.state {
            State::Done | State::Broken => {}
            State::Start if blank => {}
            State::Start => self.state = if character == '{' { State::KeyOrEnd } else { State::Broken },
            State::KeyOrEnd if blank || character == ',' => {}
            State::KeyOrEnd => {
                self.state = match character {
                    '"' => State::Key("\"".to_owned()),
                    '}' => State::Done,
                    _ => State::Broken,
                }
            }
            State::Key(text) => {
                text.push(character);
                if character == '"' && !text.ends_with("\\\"") {
                    let key: String = serde_json::from_str(text).unwrap_or_default();
                    self.state = State::Colon(match key.as_str() {
                        "name" => Member::Name,
                        "arguments" | "parameters" => Member::Arguments,
                        _ => Member::Other,
                    });
                } else if text.len() > 256 {
                    self.state = State::Broken;
                }
            }
            State::Colon(_) if blank => {}
            State::Colon(member) => {
                self.state = match character {
                    ':' => State::Value(*member, JsonScanner::new(), String::new()),
                    _ => State::Broken,
                }
            }
            State::Value(..) => self.step_value(character, sink),
        }
    }

    fn step_value(&mut self, character: char, sink: &mut CallSink) {
        let State::Value(member, scanner, text) = &mut self.state else { return };
        if text.is_empty() {
            match (*member, character) {
                (_, character) if character.is_ascii_whitespace() => return,
                (Member::Arguments, '"') => *member = Member::Quoted,
                _ => {}
            }
        }
        let in_text = scanner.in_text();
        let step = scanner.step(character);
        if matches!(step, Step::More | Step::Done) {
            let piece = match character {
                // Models write line breaks into strings; JSON wants them escaped.
                control if in_text && control.is_control() && control < ' ' => {
                    Value::from(control.to_string()).to_string().trim_matches('"').to_owned()
                }
                other => other.to_string(),
            };
            text.push_str(&piece);
            if *member == Member::Arguments {
                self.waiting.push_str(&piece);
            }
        }
        match step {
            Step::Invalid => self.state = State::Broken,
            Step::More => {}
            Step::Done | Step::DoneBefore => {
                let (member, text) = (*member, std::mem::take(text));
                self.state = State::KeyOrEnd;
                self.ended(member, &text);
            }
        }
        self.flush(sink);
        if step == Step::DoneBefore {
            self.step(character, sink);
        }
    }

    fn ended(&mut self, member: Member, text: &str) {
        match member {
            Member::Name => {
                self.name = serde_json::from_str::<String>(text).ok().filter(|name| !name.is_empty())
            }
            Member::Arguments => self.arguments = true,
            Member::Quoted => {
                let inner: String = serde_json::from_str(text).unwrap_or_default();
                let whole = serde_json::from_str::<Value>(&inner).is_ok_and(|value| value.is_object());
                self.waiting.push_str(if whole { &inner } else { text });
                self.arguments = true;
            }
            Member::Other => {}
        }
        if member == Member::Name && self.name.is_none() {
            self.state = State::Broken;
        }
    }

    fn flush(&mut self, sink: &mut CallSink) {
        if let Some(name) = &self.name {
            sink.begin(name);
            sink.arguments(&std::mem::take(&mut self.waiting));
        }
    }

    /// At `</tool_call>`; false: this was no call.
    pub(super) fn finish(&mut self, sink: &mut CallSink) -> bool {
        self.flush(sink);
        let whole = self.name.is_some() && (matches!(self.state, State::Done) || sink.begun());
        if whole && matches!(self.state, State::Done) && !self.arguments {
            sink.arguments("{}");
        }
        whole
    }
}
