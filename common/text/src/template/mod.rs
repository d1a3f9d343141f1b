//! Chat templates: the checkpoint's Jinja template, rendered as transformers' `apply_chat_template` does, but with limits. A template
//! is untrusted data of a checkpoint: it cannot hang the process or exhaust memory.

mod budget;
mod environment;
mod error;
mod filters;
mod format;
mod generic_tools;
mod json;
mod messages;
mod methods;
mod python;
mod rendered;
mod rewrite;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use self::generic_tools::Place;
use self::messages::Abilities;
use crate::{OutputFormat, Tokenizer, ToolFormat};

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
    main: Arc<Variant>,
    /// Used for conversations with tools.
    tool_use: Option<Variant>,
    globals: BTreeMap<String, String>,
    tokenizer: Option<Tokenizer>,
}

/// One of a checkpoint's templates.
struct Variant {
    source: String,
    abilities: Abilities,
    format: OutputFormat,
    /// It has no form for tools, or one whose calls cannot be parsed.
    generic_tools: bool,
    /// It writes calls of earlier messages in its own form.
    writes_calls: bool,
}

impl Variant {
    fn new(source: &str) -> Result<Self, TemplateError> {
        let checked = environment::check(source)?;
        let takes_images = ["'image'", "\"image\"", "image_url"].iter().any(|word| source.contains(word));
        let abilities =
            Abilities { takes_images, takes_text_arguments: source.contains("arguments is string") };
        let mut format = OutputFormat::of_template(source);
        let generic_tools = format.tools.is_none();
        format.tools = format.tools.or(Some(ToolFormat::Hermes));
        let writes_calls = source.contains("tool_calls");
        Ok(Self { source: checked, abilities, format, generic_tools, writes_calls })
    }
}

/// Input of a template: a conversation and its options.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateInput {
    /// Messages as in OpenAI's API: `{role, content: string | null | [{type: "text", text} | {type: "image"|"image_url", …}], tool_calls?,
    /// tool_call_id?, name?, reasoning_content?}`. Arguments of tool calls may be JSON strings; the template receives objects. Text
    /// that is not a JSON object is kept as it is, or under the key `arguments` if the template requires an object.
    pub messages: Vec<Value>,
    /// Tools as in OpenAI's API: `{type: "function", function: {name, description, parameters}}`; may be empty.
    pub tools: Vec<Value>,
    /// Whether the text ends with the start of an assistant message.
    pub add_generation_prompt: bool,
    /// Whether the text ends within the last message, which is the assistant's, so that the model continues it.
    pub continue_final_message: bool,
    /// Further template variables such as `enable_thinking` and `documents`; `messages` and `tools` cannot be replaced.
    pub kwargs: Map<String, Value>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.inner.main.source.len()).finish_non_exhaustive()
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
        let inner = Inner { main: Arc::new(Variant::new(source)?), tool_use: None, globals, tokenizer };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Adds the template that the checkpoint names `tool_use`, for conversations with tools.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_tool_use(self, source: &str) -> Result<Self, TemplateError> {
        let tool_use = Some(Variant::new(source)?);
        let main = Arc::clone(&self.inner.main);
        let (globals, tokenizer) = (self.inner.globals.clone(), self.inner.tokenizer.clone());
        Ok(Self { inner: Arc::new(Inner { main, tool_use, globals, tokenizer }) })
    }

    /// Renders a conversation to the text of the prompt.
    ///
    /// # Errors
    /// [`TemplateError::Message`] for an invalid message; [`TemplateError::Raised`] when the template rejects the conversation;
    /// [`TemplateError::Failed`] for an error in the template; [`TemplateError::Limit`] when rendering exceeds its limits.
    pub fn render(&self, input: &TemplateInput) -> Result<RenderedPrompt, TemplateError> {
        let variant = self.variant(!input.tools.is_empty());
        let mut messages = messages::normalize(&input.messages, variant.abilities)?;
        if input.continue_final_message {
            messages::mark_end(&mut messages)?;
        }
        let has_calls = !variant.writes_calls && generic_tools::occur_in(&messages);
        if !variant.generic_tools || (input.tools.is_empty() && !has_calls) {
            return self.render_with(variant, input, messages, &input.tools);
        }
        let in_system = generic_tools::as_text(messages.clone(), &input.tools, Place::System);
        match self.render_with(variant, input, in_system, &[]) {
            Err(TemplateError::Raised(_)) if !input.tools.is_empty() => {
                let in_user = generic_tools::as_text(messages, &input.tools, Place::User);
                self.render_with(variant, input, in_user, &[])
            }
            rendered => rendered,
        }
    }

    fn render_with(
        &self,
        variant: &Variant,
        input: &TemplateInput,
        messages: Vec<Value>,
        tools: &[Value],
    ) -> Result<RenderedPrompt, TemplateError> {
        let mut context = input.kwargs.clone();
        context.insert("messages".to_owned(), Value::Array(messages));
        context.insert(
            "tools".to_owned(),
            if tools.is_empty() { Value::Null } else { Value::Array(tools.to_vec()) },
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
        let new_message = input.add_generation_prompt && !input.continue_final_message;
        context.insert("add_generation_prompt".to_owned(), Value::Bool(new_message));
        let mut marked = environment::render(&variant.source, Value::Object(context))?;
        if input.continue_final_message {
            messages::cut_at_end(&mut marked, input.messages.len())?;
        }
        Ok(RenderedPrompt::from_marked(&marked))
    }

    fn variant(&self, with_tools: bool) -> &Variant {
        self.inner.tool_use.as_ref().filter(|_| with_tools).unwrap_or(&self.inner.main)
    }

    /// Whether the template supports images in messages.
    #[must_use]
    pub fn takes_images(&self) -> bool {
        self.inner.main.abilities.takes_images
    }

    /// Whether tools are described in a generic form, because the template has none, or none whose calls can be parsed.
    #[must_use]
    pub fn has_generic_tools(&self) -> bool {
        self.variant(true).generic_tools
    }

    /// The template's source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.inner.main.source
    }

    /// The format of the model's tool calls and reasoning.
    #[must_use]
    pub fn output_format(&self) -> OutputFormat {
        let with_tools = self.variant(true).format;
        OutputFormat { reasoning: with_tools.reasoning || self.inner.main.format.reasoning, ..with_tools }
    }
}
