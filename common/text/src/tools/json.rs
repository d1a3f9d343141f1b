//! Incremental JSON scanner.

use serde_json::Value;

/// Maximum nesting depth.
const MAX_DEPTH: usize = 64;

/// Scans one JSON value character by character.
#[derive(Debug, Clone)]
pub(super) struct JsonScanner {
    state: State,
    open: Vec<char>,
}

/// Result of one character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Part of the value, which continues.
    More,
    /// Last character of the value.
    Done,
    /// The value ended before this character (possible for numbers and literals).
    DoneBefore,
    /// Not valid JSON.
    Invalid,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Text { key: bool, escape: Escape },
    Scalar(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    No,
    Started,
    /// Number of missing hexadecimal digits.
    Unicode(u8),
}

impl JsonScanner {
    pub(super) fn new() -> Self {
        Self { state: State::Value, open: Vec::new() }
    }

    /// Whether the position is inside a string, in which control characters must be escaped.
    pub(super) fn in_text(&self) -> bool {
        matches!(self.state, State::Text { .. })
    }

    pub(super) fn step(&mut self, character: char) -> Step {
        match &mut self.state {
            State::Text { key, escape } => {
                let key = *key;
                match (*escape, character) {
                    (Escape::No, '"') if key => self.state = State::Colon,
                    (Escape::No, '"') => return self.ended(),
                    (Escape::No, '\\') => *escape = Escape::Started,
                    (Escape::No, _) => {}
                    (Escape::Started, 'u') => *escape = Escape::Unicode(4),
                    (Escape::Started, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => *escape = Escape::No,
                    (Escape::Unicode(1), digit) if digit.is_ascii_hexdigit() => *escape = Escape::No,
                    (Escape::Unicode(left), digit) if digit.is_ascii_hexdigit() => {
                        *escape = Escape::Unicode(left - 1)
                    }
                    _ => return Step::Invalid,
                }
                Step::More
            }
            State::Scalar(text) => {
                if character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.') {
                    text.push(character);
                    return if text.len() > 64 { Step::Invalid } else { Step::More };
                }
                if serde_json::from_str::<Value>(text).is_err() {
                    return Step::Invalid;
                }
                match self.ended() {
                    Step::Done => Step::DoneBefore,
                    _ => self.step(character),
                }
            }
            _ if matches!(character, ' ' | '\n' | '\r' | '\t') => Step::More,
            State::ValueOrEnd if character == ']' => self.closed(character),
            State::Value | State::ValueOrEnd => self.begun(character),
            State::KeyOrEnd if character == '}' => self.closed(character),
            State::Key | State::KeyOrEnd if character == '"' => {
                self.state = State::Text { key: true, escape: Escape::No };
                Step::More
            }
            State::Colon if character == ':' => {
                self.state = State::Value;
                Step::More
            }
            State::CommaOrEnd if character == ',' => {
                self.state = if self.open.last() == Some(&']') { State::Value } else { State::Key };
                Step::More
            }
            State::CommaOrEnd => self.closed(character),
            State::Key | State::KeyOrEnd | State::Colon => Step::Invalid,
        }
    }

    fn begun(&mut self, character: char) -> Step {
        self.state = match character {
            '{' => State::KeyOrEnd,
            '[' => State::ValueOrEnd,
            '"' => State::Text { key: false, escape: Escape::No },
            '-' | '0'..='9' | 't' | 'f' | 'n' => State::Scalar(character.to_string()),
            _ => return Step::Invalid,
        };
        match character {
            '{' => self.open.push('}'),
            '[' => self.open.push(']'),
            _ => {}
        }
        if self.open.len() > MAX_DEPTH { Step::Invalid } else { Step::More }
    }

    fn closed(&mut self, character: char) -> Step {
        if self.open.pop() == Some(character) { self.ended() } else { Step::Invalid }
    }

    fn ended(&mut self) -> Step {
        self.state = State::CommaOrEnd;
        if self.open.is_empty() { Step::Done } else { Step::More }
    }
}
