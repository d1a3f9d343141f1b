//! Parser for calls in JSON: `{"name": "f", "arguments": {…}}`.

use serde_json::Value;

use super::json::{JsonScanner, Step};
use super::output::CallSink;

/// Parses the text between `<tool_call>` and `</tool_call>` incrementally.
#[derive(Debug, Clone)]
pub(super) struct HermesCall {
    state: State,
    name: Option<String>,
    /// Arguments that precede the name, or whose text is incomplete.
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
    /// The object has ended; further text is ignored.
    Done,
    /// The text is not a valid call.
    Invalid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Name,
    Arguments,
    /// Arguments as a string with JSON.
    Quoted,
    Other,
}

impl HermesCall {
    pub(super) fn new() -> Self {
        Self { state: State::Start, name: None, waiting: String::new(), arguments: false }
    }

    /// Whether the position is inside a string, in which a closing tag has no meaning.
    pub(super) fn in_text(&self) -> bool {
        matches!(&self.state, State::Value(_, scanner, _) if scanner.in_text())
    }

    pub(super) fn step(&mut self, character: char, sink: &mut CallSink) {
        let blank = character.is_ascii_whitespace();
        match &mut self.state {
            State::Done | State::Invalid => {}
            State::Start if blank => {}
            State::Start => self.state = if character == '{' { State::KeyOrEnd } else { State::Invalid },
            State::KeyOrEnd if blank || character == ',' => {}
            State::KeyOrEnd => {
                self.state = match character {
                    '"' => State::Key("\"".to_owned()),
                    '}' => State::Done,
                    _ => State::Invalid,
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
                    self.state = State::Invalid;
                }
            }
            State::Colon(_) if blank => {}
            State::Colon(member) => {
                self.state = match character {
                    ':' => State::Value(*member, JsonScanner::new(), String::new()),
                    _ => State::Invalid,
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
                // Some models write unescaped line breaks in strings, which is not valid JSON.
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
            Step::Invalid => self.state = State::Invalid,
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
            self.state = State::Invalid;
        }
    }

    fn flush(&mut self, sink: &mut CallSink) {
        if let Some(name) = &self.name {
            sink.begin(name);
            sink.arguments(&std::mem::take(&mut self.waiting));
        }
    }

    /// Ends the call at `</tool_call>`; `false` when the text was not a valid call.
    pub(super) fn finish(&mut self, sink: &mut CallSink) -> bool {
        self.flush(sink);
        let whole = self.name.is_some() && (matches!(self.state, State::Done) || sink.begun());
        if whole && matches!(self.state, State::Done) && !self.arguments {
            sink.arguments("{}");
        }
        whole
    }
}
