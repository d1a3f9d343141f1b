//! Tokenizing and detokenizing, with vLLM's requests and responses.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use videosdgx_api::{
    Problem,
    openai::{DetokenizeAnswer, DetokenizeRequest, TokenizeAnswer, TokenizeRequest},
};
use videosdgx_shell::{Caller, Failure, HandlerResult, Read, body, run_blocking};
use videosdgx_text::{AllowSpecial, ShowSpecial};

use crate::{
    conversation::{Conversation, tool_values},
    long_texts,
    prompt::{self, PromptEnd, TemplateRequest},
    runtime::ModelRuntime,
    service::TextService,
};

/// Convert a text or a conversation to tokens
#[utoipa::path(post, path = "/tokenize", tag = "completions", request_body = TokenizeRequest,
    responses((status = 200, body = TokenizeAnswer)))]
pub(crate) async fn tokenize(
    caller: Caller<Read>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    let body = body::read_json(&request, payload, &caller.principal).await?;
    let length = body.len();
    let (request, _lease) = body.parse::<TokenizeRequest>().await?;
    let service = service.into_inner();
    service.check_model(request.model.as_deref()).await?;
    let runtime = service.runtime().await?;
    let turn = long_texts::turn(&caller.principal, length).await;
    let with_texts = request.return_token_strs == Some(true);
    let tokens = match (&request.prompt, &request.messages) {
        (Some(_), Some(_)) => {
            return Err(Problem::field("messages", "send a prompt or messages, not both").into());
        }
        (None, None) => return Err(Problem::field("prompt", "send a prompt or messages").into()),
        (Some(text), None) => {
            let (runtime, text) = (Arc::clone(&runtime), text.clone());
            let prefix = request.add_special_tokens.unwrap_or(true);
            // The turn ends with the work, also when the client has disconnected before.
            let work = move || {
                let _turn = turn;
                encode(&runtime, &text, prefix)
            };
            run_blocking(work).await??
        }
        (None, Some(messages)) => {
            let template = TemplateRequest {
                conversation: Conversation::check(messages, runtime.images.is_some())?,
                tools: tool_values(request.tools.as_deref().unwrap_or_default()),
                kwargs: request.chat_template_kwargs.clone().unwrap_or_default(),
                end: PromptEnd::of(request.add_generation_prompt, request.continue_final_message)?,
            };
            let runtime = Arc::clone(&runtime);
            let work = async move {
                let _turn = turn;
                prompt::of_conversation(&runtime, template).await
            };
            actix_web::rt::spawn(work).await.map_err(Failure::internal)??.prompt.tokens
        }
    };
    let answer = run_blocking(move || {
        let text = |id: &u32| runtime.tokenizer.decode(&[*id], ShowSpecial::Keep);
        let token_strs = with_texts.then(|| tokens.iter().map(text).collect());
        let (count, max_model_len) = (tokens.len() as u64, runtime.max_context as u64);
        serde_json::to_vec(&TokenizeAnswer { count, max_model_len, tokens, token_strs })
    });
    let answer = answer.await?.map_err(Failure::internal)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(answer))
}

fn encode(runtime: &ModelRuntime, text: &str, prefix: bool) -> Result<Vec<u32>, Problem> {
    let mut tokens = if prefix { runtime.tokenizer.prompt_prefix().to_vec() } else { Vec::new() };
    let encoded = runtime.tokenizer.encode(text, AllowSpecial::All);
    tokens.extend(encoded.map_err(|error| Problem::field("prompt", error.to_string()))?);
    Ok(tokens)
}

/// Convert tokens to text
#[utoipa::path(post, path = "/detokenize", tag = "completions", request_body = DetokenizeRequest,
    responses((status = 200, body = DetokenizeAnswer)))]
pub(crate) async fn detokenize(
    caller: Caller<Read>,
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<TextService>,
) -> HandlerResult {
    let body = body::read_json(&request, payload, &caller.principal).await?;
    let (request, _lease) = body.parse::<DetokenizeRequest>().await?;
    let service = service.into_inner();
    service.check_model(request.model.as_deref()).await?;
    let runtime = service.runtime().await?;
    let vocab = runtime.tokenizer.vocab_size();
    if let Some(at) = request.tokens.iter().position(|id| *id as usize >= vocab) {
        let detail = format!("token ids must be below {vocab}");
        return Err(Problem::field(format!("tokens[{at}]"), detail).with_limit(vocab).into());
    }
    let text = run_blocking(move || runtime.tokenizer.decode(&request.tokens, ShowSpecial::Keep)).await?;
    Ok(HttpResponse::Ok().json(DetokenizeAnswer { prompt: text }))
}
