//! Tests of tokenizer, templates, constraints and tool calls.

mod assets;
mod constraint;
mod detokenizer;
mod support;
mod template;
mod tokenizer;
mod tools;
