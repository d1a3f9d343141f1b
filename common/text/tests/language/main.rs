//! Tests of tokenizer, templates, constraints and tool calls.

mod assets;
mod constraint;
mod constraint_limits;
mod detokenizer;
mod jinja;
mod schemas;
mod support;
mod template;
mod tokenizer;
mod tool_templates;
mod tools;
