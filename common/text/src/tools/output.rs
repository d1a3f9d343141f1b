//! Incremental parsing of a model's output into reasoning, content and tool calls.

use super::call_id::call_id;
use super::hermes::HermesCall;
use super::markers::Markers;
use super::tagged::{Progress, TaggedCall};
use super::{OutputFormat, ToolFormat, ToolSet};
use crate::reasoning::ReasoningSplitter;

/// Parts of the output that a piece of text adds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputDelta {
    /// Text of the answer.
    pub content: String,
    /// Text of the reasoning.
    pub reasoning: String,
    /// Parts of tool calls.
    pub tool_calls: Vec<ToolCallDelta>,
}

/// A part of a tool call, as in OpenAI's streaming API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolCallDelta {
    /// Number of the call in the output, from 0.
    pub index: usize,
    /// Id of the call; only in its first delta.
    pub id: Option<String>,
    /// Name of the tool; only in the call's first delta.
    pub name: Option<String>,
    /// Text to append to the JSON of the arguments.
    pub arguments_delta: String,
}

impl OutputDelta {
    /// Whether the delta adds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.reasoning.is_empty() && self.tool_calls.is_empty()
    }
}

/// Parses a model's output from pieces of any size. The concatenated deltas do not depend on how the text was split. The cost is a
/// few nanoseconds per character.
///
/// ```
/// use videosdgx_text::{OutputFormat, OutputParser, ToolSet};
///
/// let format = OutputFormat { tools: None, reasoning: true };
/// let mut parser = OutputParser::new(format, ToolSet::default(), false, "1");
/// let delta = parser.push("<think>A greeting.</think>\n\nHello");
/// assert_eq!((delta.reasoning.as_str(), delta.content.as_str()), ("A greeting.", "Hello"));
/// assert!(parser.finish().is_empty());
/// ```
#[derive(Debug, Clone)]
pub struct OutputParser {
    reasoning: ReasoningSplitter,
    tools: ToolSet,
    format: Option<ToolFormat>,
    state: State,
    markers: Markers,
    /// White space that becomes content unless a call follows.
    blank: String,
    calls: Calls,
}

#[derive(Debug, Clone)]
enum State {
    Content,
    /// With its text, which becomes content if it is not a valid call, and the search for its end.
    Hermes(HermesCall, String, Markers),
    Tagged(TaggedCall, String),
}

impl OutputParser {
    /// A parser for an output in `format` to a request with `tools` (if empty, calls are not parsed). `thinking`: the prompt ended
    /// inside reasoning (see [`OutputParser::prompt_opens_reasoning`]). The ids of calls are derived from `id`.
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

    /// Whether a rendered prompt ends with `<think>`, so that the output begins with reasoning.
    #[must_use]
    pub fn prompt_opens_reasoning(prompt: &str) -> bool {
        prompt.trim_end().ends_with("<think>")
    }

    /// Whether a rendered prompt ends inside `<think>…`, so that the output continues the reasoning.
    #[must_use]
    pub fn prompt_is_inside_reasoning(prompt: &str) -> bool {
        prompt.rfind("<think>").is_some_and(|opened| !prompt[opened..].contains("</think>"))
    }

    /// Parses the next piece of text.
    pub fn push(&mut self, text: &str) -> OutputDelta {
        let mut delta = OutputDelta::default();
        let mut content = String::new();
        self.reasoning.push(text, &mut delta.reasoning, &mut content);
        self.push_content(&content, &mut delta);
        delta
    }

    /// Ends the output and returns what was held back. An incomplete call between tags is closed, so that its arguments are valid JSON;
    /// an incomplete call in JSON remains incomplete.
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

    /// Whether the output contains a tool call; the finish reason is then `tool_calls`.
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
                    // Qwen 3 Coder sometimes omits the outer tag.
                    ToolFormat::QwenXml => &["<tool_call>", "<function=", "</tool_call>"],
                };
                let mut plain = String::new();
                let found = self.markers.step(character, markers, &mut plain);
                append(&plain, &mut self.blank, content);
                match (found, format) {
                    (Some(0), ToolFormat::Hermes) => {
                        self.state =
                            State::Hermes(HermesCall::new(), markers[0].to_owned(), Markers::default());
                    }
                    (Some(number @ (0 | 1)), _) => {
                        self.state =
                            State::Tagged(TaggedCall::new(format, number == 1), markers[number].to_owned());
                    }
                    (Some(number), _) if sink.index == 0 => append(markers[number], &mut self.blank, content),
                    _ => {}
                }
            }
            State::Hermes(call, text, end) => {
                text.push(character);
                // The end tag is searched for outside strings, and in addition to the JSON scan, because the JSON may be invalid.
                let mut unused = String::new();
                let found = !call.in_text() && end.step(character, &["</tool_call>"], &mut unused).is_some();
                call.step(character, sink);
                if found {
                    if call.finish(sink) {
                        sink.ended = true;
                        self.blank.clear();
                    } else {
                        append(&std::mem::take(text), &mut self.blank, content);
                    }
                    self.state = State::Content;
                }
            }
            State::Tagged(call, text) => {
                text.push(character);
                match call.step(character, &self.tools, sink) {
                    Progress::More => {}
                    Progress::Complete => {
                        sink.ended = true;
                        self.blank.clear();
                        self.state = State::Content;
                    }
                    Progress::Invalid => {
                        append(&std::mem::take(text), &mut self.blank, content);
                        self.state = State::Content;
                    }
                }
            }
        }
    }
}

/// Appends text to the content, holding back trailing white space.
fn append(text: &str, blank: &mut String, content: &mut String) {
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

/// Counter and ids of calls.
#[derive(Debug, Clone, Default)]
struct Calls {
    id: String,
    count: usize,
    /// Whether the name of the current call has been reported.
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
                id: sink.name.is_some().then(|| call_id(&self.id, sink.index)),
                name: sink.name,
                arguments_delta: sink.arguments,
            });
        }
        if sink.ended {
            self.announced = false;
        }
    }
}

/// Output of a call parser.
#[derive(Debug, Clone, Default)]
pub(super) struct CallSink {
    index: usize,
    announced: bool,
    name: Option<String>,
    arguments: String,
    ended: bool,
}

impl CallSink {
    /// Sets the name, the first time only.
    pub(super) fn begin(&mut self, name: &str) {
        if !self.begun() {
            self.name = Some(name.to_owned());
        }
    }

    /// Whether the name is known.
    pub(super) fn begun(&self) -> bool {
        self.announced || self.name.is_some()
    }

    /// Appends to the arguments.
    pub(super) fn arguments(&mut self, text: &str) {
        self.arguments.push_str(text);
    }
}
