//! Chat templates: the checkpoint's own Jinja program, run as transformers runs it (`apply_chat_template`), but bounded: a
//! template is data of a checkpoint, so nothing in it can hang the process or take memory without end.

mod budget;
mod environment;
mod error;
mod filters;
mod json;
mod messages;
mod methods;
mod rendered;
mod rewrite;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::Tokenizer;

pub use self::error::TemplateError;
pub use self::rendered::{RenderedPrompt, expand_images};

/// Longest source of a template, bytes; the longest published ones have some 20,000.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 128 << 10;

/// A compiled chat template. Clones share it.
#[derive(Clone)]
pub struct ChatTemplate {
    inner: Arc<Inner>,
}

struct Inner {
    source: String,
    globals: BTreeMap<String, String>,
    tokenizer: Option<Tokenizer>,
    takes_images: bool,
    takes_tools: bool,
}

/// What a conversation is rendered from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateInput {
    /// OpenAI's messages: `{role, content: text | null | [{type: "text", text} | {type: "image"|"image_url", …}], tool_calls?, tool_call_id?, name?,
    /// reasoning_content?}`. Arguments of tool calls may be a string of JSON; the template sees the object.
    pub messages: Vec<Value>,
    /// OpenAI's tools: `{type: "function", function: {name, description, parameters}}`; empty: the template sees none.
    pub tools: Vec<Value>,
    /// Ends with the beginning of the assistant's answer.
    pub add_generation_prompt: bool,
    /// More variables for the template: `enable_thinking`, `documents` …; they cannot replace `messages` or `tools`.
    pub kwargs: Map<String, Value>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.inner.source.len()).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Checks the template's syntax. `globals` are the texts of special tokens that templates name (`bos_token`, `eos_token` …); with a
    /// `tokenizer`, users' look-alikes of its special tokens are kept apart from the template's own.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] for a template that does not parse or is too long.
    pub fn new(
        source: &str,
        globals: BTreeMap<String, String>,
        tokenizer: Option<Tokenizer>,
    ) -> Result<Self, TemplateError> {
        let checked = environment::check(source)?;
        let takes_images = ["'image'", "\"image\"", "image_url"].iter().any(|word| source.contains(word));
        let inner = Inner {
            source: checked,
            globals,
            tokenizer,
            takes_images,
            takes_tools: source.contains("tools"),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The text that the model reads.
    ///
    /// # Errors
    /// [`TemplateError::Message`] for a message of the wrong shape; [`TemplateError::Raised`] with the template's own words when it refuses the
    /// conversation; [`TemplateError::Failed`] when it is wrong; [`TemplateError::Limit`] when it works or writes more than a
    /// conversation of this size can need.
    pub fn render(&self, input: &TemplateInput) -> Result<RenderedPrompt, TemplateError> {
        let mut context = input.kwargs.clone();
        let messages = messages::normalize(&input.messages, self.inner.takes_images)?;
        context.insert("messages".to_owned(), Value::Array(messages));
        context.insert(
            "tools".to_owned(),
            if input.tools.is_empty() { Value::Null } else { Value::Array(input.tools.clone()) },
        );
        context.entry("documents").or_insert(Value::Null);
        if let Some(tokenizer) = &self.inner.tokenizer {
            for value in context.values_mut() {
                messages::mark(value, tokenizer);
            }
        }
        for (name, text) in &self.inner.globals {
            context.entry(name).or_insert_with(|| Value::String(text.clone()));
        }
        context.insert("add_generation_prompt".to_owned(), Value::Bool(input.add_generation_prompt));
        let marked = environment::render(&self.inner.source, Value::Object(context))?;
        Ok(RenderedPrompt::from_marked(&marked))
    }

    /// Whether pictures in messages have a place in the text.
    #[must_use]
    pub fn takes_images(&self) -> bool {
        self.inner.takes_images
    }

    /// Whether the model is told of tools.
    #[must_use]
    pub fn takes_tools(&self) -> bool {
        self.inner.takes_tools
    }

    /// The template's text, by which the shape of its tool calls and reasoning is recognised.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.inner.source
    }
}
