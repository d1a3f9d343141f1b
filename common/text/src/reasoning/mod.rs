//! A model's thoughts, split from its answer: `<think>…</think>` at the beginning of its output.

use crate::tools::Markers;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Splits text that comes in pieces. White space round the tags belongs to neither part.
#[derive(Debug, Clone)]
pub(crate) struct ReasoningSplitter {
    state: State,
    markers: Markers,
    /// White space that is shown when something follows it.
    blank: String,
    /// Something of the part was shown.
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Only white space so far: thoughts may begin.
    Start,
    Thoughts,
    /// Behind the thoughts, before the answer.
    Gap,
    Answer,
}

impl ReasoningSplitter {
    /// `enabled`: the model may think; `thinking`: its prompt opened the thoughts.
    pub(crate) fn new(enabled: bool, thinking: bool) -> Self {
        let state = match (enabled, thinking) {
            (_, true) => State::Thoughts,
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
            State::Thoughts => self.think(&held, reasoning),
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
                    self.state = State::Thoughts;
                } else if !self.blank.trim().is_empty() {
                    answer.push_str(&std::mem::take(&mut self.blank));
                    answer.push_str(&self.markers.finish());
                    self.state = State::Answer;
                }
            }
            State::Thoughts => {
                // A template may have opened the thoughts and the model opens them again: its tag is no thought.
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
