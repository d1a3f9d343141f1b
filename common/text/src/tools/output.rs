//! A model's text, taken apart as it streams: thoughts, content, calls of tools.

use super::hermes::HermesCall;
use super::markers::Markers;
use super::tagged::{Progress, TaggedCall};
use super::{OutputFormat, ToolFormat, ToolSet};
use crate::reasoning::ReasoningSplitter;

/// What a piece of text adds to an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputDelta {
    /// For the reader.
    pub content: String,
    /// The model's thoughts.
    pub reasoning: String,
    /// Calls that began or went on.
    pub tool_calls: Vec<ToolCallDelta>,
}

/// What a piece of text adds to a call, as OpenAI streams it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolCallDelta {
    /// Number of the call in the answer, from 0.
    pub index: usize,
    /// In its first delta.
    pub id: Option<String>,
    /// In its first delta.
    pub name: Option<String>,
    /// More of the arguments' JSON.
    pub arguments_delta: String,
}

impl OutputDelta {
    /// Whether nothing came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.reasoning.is_empty() && self.tool_calls.is_empty()
    }
}

/// Takes a model's text in pieces of any size; the deltas together do not depend on where it was cut. It works character by character, so
/// its cost is a few nanoseconds each, whatever came before.
#[derive(Debug, Clone)]
pub struct OutputParser {
    reasoning: ReasoningSplitter,
    tools: ToolSet,
    format: Option<ToolFormat>,
    state: State,
    markers: Markers,
    /// White space that is content unless a call follows.
    blank: String,
    calls: Calls,
}

#[derive(Debug, Clone)]
enum State {
    Content,
    /// With its text from the marker on, to be content if it is no call; and the search for its end.
    Hermes(HermesCall, String, Markers),
    Tagged(TaggedCall, String),
}

impl OutputParser {
    /// For an answer in `format` to a request with `tools` (none: what looks like a call is content). `thinking`: the prompt ended inside of the
    /// model's thoughts (see [`OutputParser::prompt_opens_reasoning`]). Calls are named `call_{id}_{index}`.
    #[must_use]
    pub fn new(format: OutputFormat, tools: ToolSet, thinking: bool, id: &str) -> Self {
        Self {
            reasoning: ReasoningSplitter::new(format.reasoning || thinking, thinking),
            format: if tools.is_empty() { None } else { format.tools },
            tools,
            state: State::Content,
            markers: Markers::default(),
            blank: String::new(),
            calls: Calls { id: id.to_owned(), ..Calls::default() },
        }
    }

    /// Whether a rendered prompt ends with an open `<think>`, so that the output begins with thoughts.
    #[must_use]
    pub fn prompt_opens_reasoning(prompt: &str) -> bool {
        prompt.trim_end().ends_with("<think>")
    }

    /// The next piece of text.
    pub fn push(&mut self, text: &str) -> OutputDelta {
        let mut delta = OutputDelta::default();
        let mut content = String::new();
        self.reasoning.push(text, &mut delta.reasoning, &mut content);
        self.push_content(&content, &mut delta);
        delta
    }

    /// The end: what was held back. A call between tags that was cut off is closed, so that its arguments are JSON; one written as
    /// JSON stays as far as it came.
    pub fn finish(&mut self) -> OutputDelta {
        let mut delta = OutputDelta::default();
        let mut content = String::new();
        self.reasoning.finish(&mut delta.reasoning, &mut content);
        self.push_content(&content, &mut delta);
        let mut sink = self.calls.sink();
        let mut rest = String::new();
        match std::mem::replace(&mut self.state, State::Content) {
            State::Content => rest = self.markers.finish(),
            State::Hermes(mut call, text, _) => {
                if !call.finish(&mut sink) {
                    rest = text;
                }
            }
            State::Tagged(mut call, text) => {
                if !call.finish(&mut sink) {
                    rest = text;
                }
            }
        }
        self.calls.take(sink, &mut delta);
        if !rest.is_empty() || self.calls.count == 0 {
            delta.content.push_str(&std::mem::take(&mut self.blank));
            delta.content.push_str(&rest);
        }
        delta
    }

    /// Whether a call of a tool was read: the finish reason is `tool_calls` then.
    #[must_use]
    pub fn has_tool_calls(&self) -> bool {
        self.calls.count > 0
    }

    fn push_content(&mut self, text: &str, delta: &mut OutputDelta) {
        let Some(format) = self.format else {
            delta.content.push_str(text);
            return;
        };
        let mut sink = self.calls.sink();
        for character in text.chars() {
            self.step(format, character, &mut sink, &mut delta.content);
            if sink.ended {
                self.calls.take(std::mem::replace(&mut sink, self.calls.sink()), delta);
                sink = self.calls.sink();
            }
        }
        self.calls.take(sink, delta);
    }

    fn step(&mut self, format: ToolFormat, character: char, sink: &mut CallSink, content: &mut String) {
        match &mut self.state {
            State::Content => {
                let markers: &[&str] = match format {
                    ToolFormat::Hermes | ToolFormat::Glm => &["<tool_call>"],
                    // Qwen 3 Coder forgets the outer tag at times.
                    ToolFormat::QwenXml => &["<tool_call>", "<function=", "</tool_call>"],
                };
                let mut plain = String::new();
                let found = self.markers.step(character, markers, &mut plain);
                show(&plain, &mut self.blank, content);
                match (found, format) {
                    (Some(0), ToolFormat::Hermes) => {
                        self.state =
                            State::Hermes(HermesCall::new(), markers[0].to_owned(), Markers::default());
                    }
                    (Some(number @ (0 | 1)), _) => {
                        self.state =
                            State::Tagged(TaggedCall::new(format, number == 1), markers[number].to_owned());
                    }
                    (Some(number), _) if sink.index == 0 => show(markers[number], &mut self.blank, content),
                    _ => {}
                }
            }
            State::Hermes(call, text, end) => {
                text.push(character);
                // The search for the end runs beside: strings may hold the tag, broken JSON may not know of strings.
                let mut unused = String::new();
                let found = !call.in_text() && end.step(character, &["</tool_call>"], &mut unused).is_some();
                call.step(character, sink);
                if found {
                    if call.finish(sink) {
                        sink.ended = true;
                        self.blank.clear();
                    } else {
                        show(&std::mem::take(text), &mut self.blank, content);
                    }
                    self.state = State::Content;
                }
            }
            State::Tagged(call, text) => {
                text.push(character);
                match call.step(character, &self.tools, sink) {
                    Progress::More => {}
                    Progress::Whole => {
                        sink.ended = true;
                        self.blank.clear();
                        self.state = State::Content;
                    }
                    Progress::Broken => {
                        show(&std::mem::take(text), &mut self.blank, content);
                        self.state = State::Content;
                    }
                }
            }
        }
    }
}

/// Writes text, but keeps white space at its end back.
fn show(text: &str, blank: &mut String, content: &mut String) {
    for character in text.chars() {
        if character.is_whitespace() {
            blank.push(character);
        } else {
            content.push_str(blank);
            blank.clear();
            content.push(character);
        }
    }
}

/// Counts and names calls.
#[derive(Debug, Clone, Default)]
struct Calls {
    id: String,
    count: usize,
    /// The call that goes on was announced.
    announced: bool,
}

impl Calls {
    fn sink(&self) -> CallSink {
        CallSink {
            index: self.count - usize::from(self.announced),
            announced: self.announced,
            ..CallSink::default()
        }
    }

    fn take(&mut self, sink: CallSink, delta: &mut OutputDelta) {
        if sink.name.is_some() {
            self.count += 1;
            self.announced = true;
        }
        if sink.name.is_some() || !sink.arguments.is_empty() {
            delta.tool_calls.push(ToolCallDelta {
                index: sink.index,
                id: sink.name.is_some().then(|| format!("call_{}_{}", self.id, sink.index)),
                name: sink.name,
                arguments_delta: sink.arguments,
            });
        }
        if sink.ended {
            self.announced = false;
        }
    }
}

/// What a call's reader found.
#[derive(Debug, Clone, Default)]
pub(super) struct CallSink {
    index: usize,
    announced: bool,
    name: Option<String>,
    arguments: String,
    ended: bool,
}

impl CallSink {
    /// The name is known; once is enough.
    pub(super) fn begin(&mut self, name: &str) {
        if !self.begun() {
            self.name = Some(name.to_owned());
        }
    }

    /// Whether the name is known.
    pub(super) fn begun(&self) -> bool {
        self.announced || self.name.is_some()
    }

    /// More of the arguments.
    pub(super) fn arguments(&mut self, text: &str) {
        self.arguments.push_str(text);
    }
}
