//! Parser for calls with arguments between tags: the formats of Qwen 3 Coder and GLM.

use super::arguments::ArgumentWriter;
use super::markers::Markers;
use super::output::CallSink;
use super::schema::{self, ArgumentKind};
use super::toolset::is_name;
use super::{ToolFormat, ToolSet};

/// Parses a call incrementally, starting after `<tool_call>` or `<function=`.
#[derive(Debug, Clone)]
pub(super) struct TaggedCall {
    format: ToolFormat,
    state: State,
    markers: Markers,
    name: String,
    writer: ArgumentWriter,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Before `<function=`.
    Start,
    Name,
    Between,
    Key(String),
    /// Between key and value (GLM).
    AfterKey(String),
    /// `true`: before the first character of the value.
    Value(bool),
}

/// State of a call after a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The call continues.
    More,
    /// The call is complete.
    Complete,
    /// The text is not a valid call.
    Invalid,
}

impl TaggedCall {
    /// `named`: `<function=` has been parsed already.
    pub(super) fn new(format: ToolFormat, named: bool) -> Self {
        let state = if named || format == ToolFormat::Glm { State::Name } else { State::Start };
        Self {
            format,
            state,
            markers: Markers::default(),
            name: String::new(),
            writer: ArgumentWriter::default(),
        }
    }

    pub(super) fn step(&mut self, character: char, tools: &ToolSet, sink: &mut CallSink) -> Progress {
        let mut plain = String::new();
        let mut out = String::new();
        let glm = self.format == ToolFormat::Glm;
        let markers: &[&str] = match (&self.state, glm) {
            (State::Start, _) => &["<function=", "</tool_call>"],
            (State::Name, true) => &["<arg_key>", "</tool_call>"],
            (State::Name, false) => &[">"],
            (State::Between, true) => &["<arg_key>", "</tool_call>"],
            (State::Between, false) => &["<parameter=", "</function>", "</tool_call>"],
            (State::Key(_), true) => &["</arg_key>"],
            (State::Key(_), false) => &[">"],
            (State::AfterKey(_), _) => &["<arg_value>", "</tool_call>"],
            (State::Value(_), true) => &["</arg_value>"],
            (State::Value(_), false) => &["\n</parameter>", "</parameter>"],
        };
        // A line break directly after a parameter's tag belongs to the tag.
        if !glm && self.state == State::Value(true) {
            self.state = State::Value(false);
            if character == '\n' {
                return Progress::More;
            }
        }
        let found = self.markers.step(character, markers, &mut plain);
        let mut progress = Progress::More;
        match (&mut self.state, found) {
            (State::Start, Some(0)) => self.state = State::Name,
            (State::Start, Some(_)) => return Progress::Invalid,
            (State::Start, None) if plain.trim().is_empty() => {}
            (State::Start, None) => return Progress::Invalid,
            (State::Name, found) => {
                self.name.push_str(&plain);
                let name = self.name.trim();
                match found {
                    None if self.name.len() > 256 => return Progress::Invalid,
                    None => {}
                    Some(_) if !is_name(name) => return Progress::Invalid,
                    Some(number) => {
                        self.name = name.to_owned();
                        sink.begin(&self.name);
                        if glm && number == 1 {
                            self.writer.finish(&mut out);
                            progress = Progress::Complete;
                        } else {
                            self.state = if glm { State::Key(String::new()) } else { State::Between };
                        }
                    }
                }
            }
            (State::Between, Some(0)) => self.state = State::Key(String::new()),
            (State::Between, Some(_)) => {
                self.writer.finish(&mut out);
                progress = Progress::Complete;
            }
            (State::Between, None) => {}
            (State::Key(key), found) => {
                key.push_str(&plain);
                if found.is_some() {
                    let key = key.trim().to_owned();
                    if glm {
                        self.state = State::AfterKey(key);
                    } else {
                        self.open(&key, tools, &mut out);
                    }
                }
            }
            (State::AfterKey(key), Some(0)) => {
                let key = std::mem::take(key);
                self.open(&key, tools, &mut out);
            }
            (State::AfterKey(_), Some(_)) => {
                self.writer.finish(&mut out);
                progress = Progress::Complete;
            }
            (State::AfterKey(_), None) => {}
            (State::Value(_), found) => {
                self.writer.push(&plain, &mut out);
                if found.is_some() {
                    self.writer.close(&mut out);
                    self.state = State::Between;
                }
            }
        }
        sink.arguments(&out);
        progress
    }

    fn open(&mut self, key: &str, tools: &ToolSet, out: &mut String) {
        let mut kind = schema::kind(tools.get(&self.name), key);
        if kind == ArgumentKind::Undeclared && self.format == ToolFormat::QwenXml {
            kind = ArgumentKind::Text;
        }
        self.writer.open(key, kind, out);
        self.state = State::Value(true);
    }

    /// Ends an incomplete call, so that its arguments become valid JSON; `false` when its name is not known yet.
    pub(super) fn finish(&mut self, sink: &mut CallSink) -> bool {
        if !sink.begun() {
            return false;
        }
        let mut out = String::new();
        if matches!(self.state, State::Value(_)) {
            let held = self.markers.finish();
            self.writer.push(&held, &mut out);
        }
        self.writer.finish(&mut out);
        sink.arguments(&out);
        true
    }
}
