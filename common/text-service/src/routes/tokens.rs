//! Text to tokens and back, in vLLM's shapes.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use videosdgx_api::{
    Problem,
    openai::{DetokenizeAnswer, DetokenizeRequest, TokenizeAnswer, TokenizeRequest},
};
use videosdgx_shell::{Caller, HandlerResult, Read, body, run_blocking};
use videosdgx_text::{AllowSpecial, ShowSpecial};

use crate::{
    conversation::{Conversation, tool_values},
    prompt::{self, Telling},
    ready::Ready,
    service::TextService,
};

/// Tokens of a text or a conversation
#[utoipa::path(post, path = "/tokenize", tag = "completions", request_body = TokenizeRequest,
    responses((status = 200, body = TokenizeAnswer)))]
pub(crate) async fn tokenize(
    _: Caller<Read>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    let body = body::read_json(&request, payload).await?;
    let asked: TokenizeRequest = body::parse(&body)?;
    drop(body);
    let service = service.into_inner();
    service.check_model(asked.model.as_deref()).await?;
    let ready = service.ready().await?;
    let with_texts = asked.return_token_strs == Some(true);
    let tokens = match (&asked.prompt, &asked.messages) {
        (Some(_), Some(_)) => {
            return Err(Problem::field("messages", "send a prompt or messages, not both").into());
        }
        (None, None) => return Err(Problem::field("prompt", "send a prompt or messages").into()),
        (Some(text), None) => {
            let (ready, text) = (Arc::clone(&ready), text.clone());
            let prefix = asked.add_special_tokens.unwrap_or(true);
            run_blocking(move || of_text(&ready, &text, prefix)).await??
        }
        (None, Some(messages)) => {
            let telling = Telling {
                conversation: Conversation::check(messages, ready.images.is_some())?,
                tools: tool_values(asked.tools.as_deref().unwrap_or_default()),
                kwargs: asked.chat_template_kwargs.clone().unwrap_or_default(),
                open_answer: asked.add_generation_prompt.unwrap_or(true),
            };
            prompt::of_conversation(&service, &ready, telling).await?.prompt.tokens
        }
    };
    let texts = with_texts
        .then(|| tokens.iter().map(|id| ready.tokenizer.decode(&[*id], ShowSpecial::Keep)).collect());
    Ok(HttpResponse::Ok().json(TokenizeAnswer {
        count: tokens.len() as u64,
        max_model_len: ready.max_context as u64,
        tokens,
        token_strs: texts,
    }))
}

fn of_text(ready: &Ready, text: &str, prefix: bool) -> Result<Vec<u32>, Problem> {
    let mut tokens = if prefix { ready.tokenizer.prompt_prefix().to_vec() } else { Vec::new() };
    let encoded = ready.tokenizer.encode(text, AllowSpecial::All);
    tokens.extend(encoded.map_err(|error| Problem::field("prompt", error.to_string()))?);
    Ok(tokens)
}

/// Text of tokens
#[utoipa::path(post, path = "/detokenize", tag = "completions", request_body = DetokenizeRequest,
    responses((status = 200, body = DetokenizeAnswer)))]
pub(crate) async fn detokenize(
    _: Caller<Read>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    let body = body::read_json(&request, payload).await?;
    let asked: DetokenizeRequest = body::parse(&body)?;
    drop(body);
    let service = service.into_inner();
    service.check_model(asked.model.as_deref()).await?;
    let ready = service.ready().await?;
    let vocab = ready.tokenizer.vocab_size();
    if let Some(at) = asked.tokens.iter().position(|id| *id as usize >= vocab) {
        let detail = format!("token ids are below {vocab}");
        return Err(Problem::field(format!("tokens[{at}]"), detail).with_limit(vocab).into());
    }
    let text = run_blocking(move || ready.tokenizer.decode(&asked.tokens, ShowSpecial::Keep)).await?;
    Ok(HttpResponse::Ok().json(DetokenizeAnswer { prompt: text }))
}
