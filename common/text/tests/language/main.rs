//! Everything between text and tokens.

mod assets;
mod constraint;
mod detokenizer;
mod support;
mod template;
mod tokenizer;
mod tools;
