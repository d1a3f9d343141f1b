//! Tests of tokenizer, templates, constraints and tool calls.

mod assets;
mod constraint;
mod constraint_limits;
mod detokenizer;
mod schemas;
mod support;
mod template;
mod tokenizer;
mod tools;
