//! From the prompt of a request to the tokens that the model reads.

use std::sync::Arc;

use serde_json::{Map, Value};
use videosdgx_api::{Code, Problem};
use videosdgx_shell::{HandlerResult, run_blocking};
use videosdgx_text::{
    AllowSpecial, OutputParser, Prompt, TemplateError, TemplateInput, TokenizerError, expand_images,
    image::ImageError,
};

use crate::{
    conversation::{Conversation, PictureSource},
    pictures,
    runtime::ModelRuntime,
};

/// A prompt in tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenizedPrompt {
    pub(crate) prompt: Prompt,
    /// The prompt ends inside the model's reasoning: the output begins with reasoning, not with content.
    pub(crate) thinking: bool,
}

/// Input of the checkpoint's chat template.
#[derive(Debug, Default)]
pub(crate) struct TemplateRequest {
    pub(crate) conversation: Conversation,
    pub(crate) tools: Vec<Value>,
    /// Further template variables (`chat_template_kwargs`).
    pub(crate) kwargs: Map<String, Value>,
    pub(crate) end: PromptEnd,
}

/// How the prompt of a conversation ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PromptEnd {
    /// With the beginning of an assistant message.
    #[default]
    NewMessage,
    /// With the end of the last message.
    LastMessage,
    /// Within the last message, which the model continues.
    Continued,
}

impl PromptEnd {
    /// The end that a request's fields select.
    pub(crate) fn of(
        add_generation_prompt: Option<bool>,
        continue_final_message: Option<bool>,
    ) -> Result<Self, Problem> {
        match (add_generation_prompt, continue_final_message.unwrap_or(false)) {
            (Some(true), true) => Err(Problem::field(
                "continue_final_message",
                "either the last message is continued or a new one begins: set add_generation_prompt to false",
            )),
            (_, true) => Ok(Self::Continued),
            (Some(false), false) => Ok(Self::LastMessage),
            (_, false) => Ok(Self::NewMessage),
        }
    }
}

/// Renders a conversation with the checkpoint's template and tokenizes it.
pub(crate) async fn of_conversation(
    runtime: &Arc<ModelRuntime>,
    request: TemplateRequest,
) -> HandlerResult<TokenizedPrompt> {
    let files = pictures::files(&request.conversation.pictures, runtime.image_urls).await?;
    let runtime = Arc::clone(runtime);
    Ok(run_blocking(move || render(&runtime, request, &files)).await??)
}

fn render(
    runtime: &ModelRuntime,
    request: TemplateRequest,
    files: &[Vec<u8>],
) -> Result<TokenizedPrompt, Problem> {
    let template = runtime.template.as_ref().ok_or_else(|| {
        let detail = "this checkpoint has no chat template: use /v1/completions with a prompt";
        Problem::field("messages", detail)
    })?;
    let TemplateRequest { conversation, tools, kwargs, end } = request;
    let input = TemplateInput {
        messages: conversation.messages,
        tools,
        add_generation_prompt: end == PromptEnd::NewMessage,
        continue_final_message: end == PromptEnd::Continued,
        kwargs,
    };
    let rendered = template.render(&input).map_err(template_problem)?;
    let thinking = match end {
        PromptEnd::Continued => OutputParser::prompt_is_inside_reasoning(rendered.text()),
        _ => OutputParser::prompt_opens_reasoning(rendered.text()),
    };
    let tokens = runtime
        .tokenizer
        .encode_rendered(&rendered)
        .map_err(|error| tokenizer_problem("messages", &error))?;
    runtime.check_tokens(&tokens, "messages")?;
    let prompt = insert_pictures(runtime, tokens, &conversation.pictures, files)?;
    Ok(TokenizedPrompt { prompt, thinking })
}

/// Repeats each picture's placeholder token as often as the picture has tokens, and cuts the pictures into patches.
fn insert_pictures(
    runtime: &ModelRuntime,
    tokens: Vec<u32>,
    sources: &[PictureSource],
    files: &[Vec<u8>],
) -> Result<Prompt, Problem> {
    if files.is_empty() {
        return Ok(Prompt { tokens, images: Vec::new() });
    }
    let (Some(processor), Some(placeholder)) = (&runtime.images, runtime.assets.image_token()) else {
        return Err(Problem::field("messages", "this model accepts text only"));
    };
    let picture_problem = |source: &PictureSource| {
        let field = source.field.clone();
        move |error: ImageError| Problem::field(field, error.to_string())
    };
    let counts = files
        .iter()
        .zip(sources)
        .map(|(file, source)| processor.count(file).map_err(picture_problem(source)))
        .collect::<Result<Vec<_>, _>>()?;
    // Patches take a lot of memory: a prompt that is too long is refused before they are made.
    let length = counts.iter().fold(tokens.len(), |length, count| length.saturating_add(*count));
    if length > runtime.max_context.saturating_add(counts.len()) {
        let sum = length - tokens.len();
        let why = format!(
            "the prompt has {length} tokens, {sum} of them for pictures; send fewer or smaller pictures"
        );
        return Err(context_exceeded("messages", runtime.max_context, &why));
    }
    let (tokens, positions) = expand_images(&tokens, placeholder, &counts)
        .map_err(|error| tokenizer_problem("messages", &error))?;
    let mut images = Vec::with_capacity(files.len());
    for ((file, source), at) in files.iter().zip(sources).zip(positions) {
        images.push(processor.process(file).map_err(picture_problem(source))?.at(at));
    }
    Ok(Prompt { tokens, images })
}

/// Tokenizes a text; the tokenizer's prefix (`<bos>`) comes first.
pub(crate) fn of_text(runtime: &ModelRuntime, text: &str, field: &str) -> Result<TokenizedPrompt, Problem> {
    let mut tokens = runtime.tokenizer.prompt_prefix().to_vec();
    let encoded = runtime.tokenizer.encode(text, AllowSpecial::All);
    tokens.extend(encoded.map_err(|error| tokenizer_problem(field, &error))?);
    runtime.check_tokens(&tokens, field)?;
    not_empty(tokens, field)
}

/// A prompt that was sent as tokens.
pub(crate) fn of_tokens(
    runtime: &ModelRuntime,
    tokens: Vec<u32>,
    field: &str,
) -> Result<TokenizedPrompt, Problem> {
    let vocab = runtime.vocab();
    if let Some(at) = tokens.iter().position(|id| *id as usize >= vocab) {
        let detail = format!("token {at} is {}: token ids must be below {vocab}", tokens[at]);
        return Err(Problem::field(field, detail).with_limit(vocab));
    }
    not_empty(tokens, field)
}

fn not_empty(tokens: Vec<u32>, field: &str) -> Result<TokenizedPrompt, Problem> {
    if tokens.is_empty() {
        return Err(Problem::field(field, "the prompt has no tokens: send at least one character"));
    }
    Ok(TokenizedPrompt { prompt: Prompt { tokens, images: Vec::new() }, thinking: false })
}

/// The maximum number of output tokens: `requested` if it fits into the context (else an error at `field`); without it
/// `default`, or all that the context leaves.
pub(crate) fn output_limit(
    runtime: &ModelRuntime,
    prompt: &Prompt,
    requested: Option<u64>,
    default: Option<u64>,
    field: &str,
) -> Result<usize, Problem> {
    let (length, max_context) = (prompt.tokens.len(), runtime.max_context);
    let left = max_context.saturating_sub(length);
    if left == 0 {
        return Err(context_exceeded(
            if field.starts_with("max_") { "messages" } else { field },
            max_context,
            &format!("the prompt has {length} tokens, which leaves none for an answer; shorten the prompt"),
        ));
    }
    match requested {
        Some(0) => Err(Problem::field(field, format!("{field} must be at least 1")).with_limit(1)),
        Some(requested) => {
            usize::try_from(requested).ok().filter(|requested| *requested <= left).ok_or_else(|| {
                let detail = format!(
                    "you requested {} tokens ({length} in the prompt, {requested} in the completion), which leaves \
                     {left} for the completion; reduce either",
                    requested.saturating_add(length as u64)
                );
                context_exceeded(field, max_context, &detail)
            })
        }
        None => Ok(default.and_then(|default| usize::try_from(default).ok()).unwrap_or(left).min(left)),
    }
}

fn context_exceeded(field: &str, max_context: usize, why: &str) -> Problem {
    // Clients recognise OpenAI's beginning of this message and then shorten the conversation.
    let detail = format!("This model's maximum context length is {max_context} tokens. However, {why}");
    let mut problem = Problem::new(Code::ContextLengthExceeded, detail).with_limit(max_context);
    problem.field = Some(field.to_owned());
    problem
}

fn template_problem(error: TemplateError) -> Problem {
    match error {
        TemplateError::Message { field, reason } => Problem::field(field, reason),
        other => Problem::field("messages", other.to_string()),
    }
}

fn tokenizer_problem(field: &str, error: &TokenizerError) -> Problem {
    Problem::field(field, error.to_string())
}
