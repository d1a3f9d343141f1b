//! From what was sent to the tokens that the model reads.

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
    ready::Ready,
    service::TextService,
};

/// A prompt in tokens, and what its text says of the answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) prompt: Prompt,
    /// The answer begins inside of the model's thoughts.
    pub(crate) thinking: bool,
}

/// A conversation as it is to be written down.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    pub(crate) conversation: Conversation,
    pub(crate) tools: Vec<Value>,
    pub(crate) kwargs: Map<String, Value>,
    /// Ends with the beginning of an answer.
    pub(crate) open_answer: bool,
}

/// Writes a conversation down with the checkpoint's template.
pub(crate) async fn of_conversation(
    service: &TextService,
    ready: &std::sync::Arc<Ready>,
    telling: Telling,
) -> HandlerResult<Written> {
    let files = pictures::files(&telling.conversation.pictures, service.settings.image_urls).await?;
    let ready = std::sync::Arc::clone(ready);
    Ok(run_blocking(move || write(&ready, telling, &files)).await??)
}

fn write(ready: &Ready, telling: Telling, files: &[Vec<u8>]) -> Result<Written, Problem> {
    let template = ready.template.as_ref().ok_or_else(|| {
        let detail = "this checkpoint has no chat template: use /v1/completions with a prompt";
        Problem::field("messages", detail)
    })?;
    let Telling { conversation, tools, kwargs, open_answer } = telling;
    if !tools.is_empty() && !template.takes_tools() {
        return Err(Problem::field("tools", "this model was not taught to call tools"));
    }
    let input =
        TemplateInput { messages: conversation.messages, tools, add_generation_prompt: open_answer, kwargs };
    let rendered = template.render(&input).map_err(told)?;
    let thinking = OutputParser::prompt_opens_reasoning(rendered.text());
    let tokens = ready.tokenizer.encode_rendered(&rendered).map_err(|error| encoding("messages", &error))?;
    let prompt = place_pictures(ready, tokens, &conversation.pictures, files)?;
    Ok(Written { prompt, thinking })
}

/// Replaces each picture's placeholder by as many as it takes, and cuts the pictures into patches.
fn place_pictures(
    ready: &Ready,
    tokens: Vec<u32>,
    sources: &[PictureSource],
    files: &[Vec<u8>],
) -> Result<Prompt, Problem> {
    if files.is_empty() {
        return Ok(Prompt { tokens, images: Vec::new() });
    }
    let (Some(processor), Some(placeholder)) = (&ready.images, ready.assets.image_token()) else {
        return Err(Problem::field("messages", "this model takes text only"));
    };
    let named = |source: &PictureSource| {
        let field = source.field.clone();
        move |error: ImageError| Problem::field(field, error.to_string())
    };
    let counts = files.iter().zip(sources).map(|(file, source)| processor.count(file).map_err(named(source)));
    let counts = counts.collect::<Result<Vec<_>, _>>()?;
    // Patches take a lot of memory: a prompt without an end is refused before they are made.
    let length = counts.iter().fold(tokens.len(), |length, count| length.saturating_add(*count));
    if length > ready.max_context.saturating_add(counts.len()) {
        let sum = length - tokens.len();
        let why = format!("the prompt has {length}, {sum} of them pictures; send fewer or smaller ones");
        return Err(exceeded("messages", ready.max_context, why));
    }
    let (tokens, positions) =
        expand_images(&tokens, placeholder, &counts).map_err(|error| encoding("messages", &error))?;
    let mut images = Vec::with_capacity(files.len());
    for ((file, source), at) in files.iter().zip(sources).zip(positions) {
        images.push(processor.process(file).map_err(named(source))?.at(at));
    }
    Ok(Prompt { tokens, images })
}

/// A text as the model reads it, with the tokens that begin one.
pub(crate) fn of_text(ready: &Ready, text: &str, field: &str) -> Result<Written, Problem> {
    let mut tokens = ready.tokenizer.prompt_prefix().to_vec();
    tokens.extend(ready.tokenizer.encode(text, AllowSpecial::All).map_err(|error| encoding(field, &error))?);
    written(tokens, field)
}

/// Tokens as they were sent.
pub(crate) fn of_tokens(ready: &Ready, tokens: Vec<u32>, field: &str) -> Result<Written, Problem> {
    let vocab = ready.tokenizer.vocab_size();
    if let Some(at) = tokens.iter().position(|id| *id as usize >= vocab) {
        let detail = format!("token {at} is {}: ids are below {vocab}", tokens[at]);
        return Err(Problem::field(field, detail).with_limit(vocab));
    }
    written(tokens, field)
}

fn written(tokens: Vec<u32>, field: &str) -> Result<Written, Problem> {
    if tokens.is_empty() {
        return Err(Problem::field(field, "the prompt has no tokens: send one character at least"));
    }
    Ok(Written { prompt: Prompt { tokens, images: Vec::new() }, thinking: false })
}

/// Most tokens of an output: as many as were asked for when they fit (`fallback` unless told, or the rest of the context).
pub(crate) fn most_tokens(
    ready: &Ready,
    prompt: &Prompt,
    told: Option<u64>,
    fallback: Option<u64>,
    field: &str,
) -> Result<usize, Problem> {
    let (length, most) = (prompt.tokens.len(), ready.max_context);
    let left = most.saturating_sub(length);
    if left == 0 {
        return Err(exceeded(
            if field.starts_with("max_") { "messages" } else { field },
            most,
            format!("the prompt has {length} tokens, which leaves none for an answer; shorten the prompt"),
        ));
    }
    match told {
        Some(0) => Err(Problem::field(field, format!("{field} is 1 at least")).with_limit(1)),
        Some(told) => usize::try_from(told).ok().filter(|told| *told <= left).ok_or_else(|| {
            let detail = format!(
                "the prompt has {length} tokens and {told} were asked for, {left} are left; shorten either"
            );
            exceeded(field, most, detail)
        }),
        None => Ok(fallback.and_then(|fallback| usize::try_from(fallback).ok()).unwrap_or(left).min(left)),
    }
}

fn exceeded(field: &str, most: usize, why: String) -> Problem {
    let detail = format!("this model's context holds {most} tokens: {why}");
    let mut problem = Problem::new(Code::ContextLengthExceeded, detail).with_limit(most);
    problem.field = Some(field.to_owned());
    problem
}

/// A template's refusal.
fn told(error: TemplateError) -> Problem {
    match error {
        TemplateError::Message { field, reason } => Problem::field(field, reason),
        other => Problem::field("messages", other.to_string()),
    }
}

fn encoding(field: &str, error: &TokenizerError) -> Problem {
    Problem::field(field, error.to_string())
}
