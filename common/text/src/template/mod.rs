//! Chat templates: the checkpoint's Jinja template, rendered as transformers' `apply_chat_template` does, but with limits. A template
//! is untrusted data of a checkpoint: it cannot hang the process or exhaust memory.

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

/// Maximum length of a template's source, bytes; the longest published ones have about 20,000.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 128 << 10;

/// A chat template. Clones share it.
///
/// ```
/// use std::collections::BTreeMap;
/// use serde_json::json;
/// use videosdgx_text::{ChatTemplate, TemplateInput};
///
/// let source = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}";
/// let template = ChatTemplate::new(source, BTreeMap::new(), None)?;
/// let messages = vec![json!({"role": "user", "content": "Hello"})];
/// let rendered = template.render(&TemplateInput { messages, ..TemplateInput::default() })?;
/// assert_eq!(rendered.text(), "<user>Hello");
/// # Ok::<(), videosdgx_text::TemplateError>(())
/// ```
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

/// Input of a template: a conversation and its options.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateInput {
    /// Messages as in OpenAI's API: `{role, content: string | null | [{type: "text", text} | {type: "image"|"image_url", …}], tool_calls?,
    /// tool_call_id?, name?, reasoning_content?}`. Arguments of tool calls may be JSON strings; the template receives objects.
    pub messages: Vec<Value>,
    /// Tools as in OpenAI's API: `{type: "function", function: {name, description, parameters}}`; may be empty.
    pub tools: Vec<Value>,
    /// Whether the text ends with the start of an assistant message.
    pub add_generation_prompt: bool,
    /// Further template variables such as `enable_thinking` and `documents`; `messages` and `tools` cannot be replaced.
    pub kwargs: Map<String, Value>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.inner.source.len()).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Checks the template's syntax. `globals` are the texts of special tokens by name (`bos_token`, `eos_token`, …). With a
    /// `tokenizer`, text in messages that equals a special token is distinguished from the template's own special tokens.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] for a template with invalid syntax or excessive length.
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

    /// Renders a conversation to the text of the prompt.
    ///
    /// # Errors
    /// [`TemplateError::Message`] for an invalid message; [`TemplateError::Raised`] when the template rejects the conversation;
    /// [`TemplateError::Failed`] for an error in the template; [`TemplateError::Limit`] when rendering exceeds its limits.
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

    /// Whether the template supports images in messages.
    #[must_use]
    pub fn takes_images(&self) -> bool {
        self.inner.takes_images
    }

    /// Whether the template supports tools.
    #[must_use]
    pub fn takes_tools(&self) -> bool {
        self.inner.takes_tools
    }

    /// The template's source, from which [`OutputFormat`](crate::OutputFormat) is detected.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.inner.source
    }
}
