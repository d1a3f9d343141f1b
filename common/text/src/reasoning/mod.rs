//! Separates a model's reasoning, `<think>…</think>` at the beginning of its output, from its answer.

use crate::tools::Markers;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Splits text incrementally. White space around the tags belongs to neither part.
#[derive(Debug, Clone)]
pub(crate) struct ReasoningSplitter {
    state: State,
    markers: Markers,
    /// White space that is output once other text follows it.
    blank: String,
    /// Some reasoning has been output.
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Only white space so far: reasoning may begin.
    Start,
    Reasoning,
    /// Between reasoning and answer.
    Gap,
    Answer,
}

impl ReasoningSplitter {
    /// `enabled`: the output may begin with reasoning. `thinking`: the prompt has already opened the tag.
    pub(crate) fn new(enabled: bool, thinking: bool) -> Self {
        let state = match (enabled, thinking) {
            (_, true) => State::Reasoning,
            (true, false) => State::Start,
            (false, false) => State::Answer,
        };
        Self { state, markers: Markers::default(), blank: String::new(), begun: false }
    }

    pub(crate) fn push(&mut self, text: &str, reasoning: &mut String, answer: &mut String) {
        for (offset, character) in text.char_indices() {
            if self.state == State::Answer {
                answer.push_str(&text[offset..]);
                return;
            }
            self.step(character, reasoning, answer);
        }
    }

    pub(crate) fn finish(&mut self, reasoning: &mut String, answer: &mut String) {
        let held = self.markers.finish();
        match self.state {
            State::Start => {
                answer.push_str(&std::mem::take(&mut self.blank));
                answer.push_str(&held);
            }
            State::Reasoning => self.think(&held, reasoning),
            State::Gap | State::Answer => answer.push_str(&held),
        }
    }

    fn step(&mut self, character: char, reasoning: &mut String, answer: &mut String) {
        let mut plain = String::new();
        match self.state {
            State::Start => {
                let found = self.markers.step(character, &[OPEN], &mut plain);
                self.blank.push_str(&plain);
                if found.is_some() {
                    self.blank.clear();
                    self.state = State::Reasoning;
                } else if !self.blank.trim().is_empty() {
                    answer.push_str(&std::mem::take(&mut self.blank));
                    answer.push_str(&self.markers.finish());
                    self.state = State::Answer;
                }
            }
            State::Reasoning => {
                // If the template has opened the tag and the model opens it again, the second tag is not part of the reasoning.
                let tags: &[&str] = if self.begun { &[CLOSE] } else { &[CLOSE, OPEN] };
                let found = self.markers.step(character, tags, &mut plain);
                self.think(&plain, reasoning);
                if found == Some(0) {
                    self.blank.clear();
                    self.state = State::Gap;
                }
            }
            State::Gap if character.is_whitespace() => {}
            State::Gap | State::Answer => {
                self.state = State::Answer;
                answer.push(character);
            }
        }
    }

    fn think(&mut self, text: &str, reasoning: &mut String) {
        for character in text.chars() {
            if !character.is_whitespace() {
                reasoning.push_str(&std::mem::take(&mut self.blank));
                reasoning.push(character);
                self.begun = true;
            } else if self.begun {
                self.blank.push(character);
            }
        }
    }
}
