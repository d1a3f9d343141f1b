//! From a completion request to tasks for the engine, one a prompt.

use std::sync::Arc;

use videosdgx_api::{
    Problem,
    openai::{CompletionPrompt, CompletionRequest},
};
use videosdgx_shell::{HandlerResult, run_blocking};
use videosdgx_text::ShowSpecial;

use crate::{
    chat::plan::checkpoint,
    knobs::Knobs,
    limits::{COMPLETION_TOKENS, MAX_ANSWERS, MAX_LOGPROBS, MAX_PROMPTS},
    prompt::{self, Written},
    ready::Ready,
    structure::Forms,
    submission::Task,
};

/// Tasks in the order of the prompts, and the texts to begin the answers with.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tasks: Vec<Task>,
    /// One a prompt; empty ones unless `echo`.
    pub(crate) echoes: Vec<String>,
    /// Answers of each prompt.
    pub(crate) n: u32,
}

/// Everything of `request`, checked.
pub(crate) async fn of_request(ready: &Arc<Ready>, request: &CompletionRequest) -> HandlerResult<Plan> {
    if request.stream_options.is_some() && request.stream != Some(true) {
        return Err(Problem::field("stream_options", "only with \"stream\": true").into());
    }
    if request.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return Err(Problem::field("suffix", "texts are not filled in here: send no suffix").into());
    }
    let choosing = Knobs::of_completion(request).check(checkpoint(ready))?;
    let n = choosing.n;
    if request.best_of.is_some_and(|best_of| best_of != n) {
        let detail = "best_of is as large as n: nothing is chosen from more";
        return Err(Problem::field("best_of", detail).with_limit(n).into());
    }
    let logprobs = match request.logprobs {
        Some(top) if top > MAX_LOGPROBS => {
            let detail = format!("logprobs is 0 to {MAX_LOGPROBS}");
            return Err(Problem::field("logprobs", detail).with_limit(MAX_LOGPROBS).into());
        }
        top => top.map(|top| u8::try_from(top).unwrap_or(0)),
    };
    let echo = request.echo == Some(true);
    if echo && logprobs.is_some() {
        let detail = "the tokens of an echoed prompt have no log-probabilities here: send one of both";
        return Err(Problem::field("logprobs", detail).into());
    }
    let structure = Forms::of_completion(request).check()?;
    let (shared, prompts) = (Arc::clone(ready), request.prompt.clone());
    let written = run_blocking(move || write(&shared, &prompts)).await??;
    let answers = written.len() * n as usize;
    let most = MAX_PROMPTS.max(MAX_ANSWERS as usize);
    if answers > most {
        let detail = format!("prompts times n is at most {most}");
        return Err(Problem::field("n", detail).with_limit(most).into());
    }
    let mut tasks = Vec::with_capacity(written.len());
    let mut echoes = Vec::with_capacity(written.len());
    for written in written {
        let mut choosing = choosing.clone();
        choosing.stop.max_tokens = prompt::most_tokens(
            ready,
            &written.prompt,
            request.max_tokens,
            Some(COMPLETION_TOKENS),
            "max_tokens",
        )
        .map_err(|problem| in_prompt(problem, &request.max_tokens))?;
        let text = ready.tokenizer.decode(&written.prompt.tokens, ShowSpecial::Skip);
        echoes.push(if echo { text } else { String::new() });
        tasks.push(Task { written, choosing, structure: structure.clone(), logprobs, parse: None });
    }
    Ok(Plan { tasks, echoes, n })
}

/// A prompt that is too long by itself is the prompt's fault.
fn in_prompt(mut problem: Problem, max_tokens: &Option<u64>) -> Problem {
    if max_tokens.is_none() || problem.field.as_deref() == Some("messages") {
        problem.field = Some("prompt".to_owned());
    }
    problem
}

fn write(ready: &Ready, prompts: &CompletionPrompt) -> Result<Vec<Written>, Problem> {
    let count = match prompts {
        CompletionPrompt::Text(_) | CompletionPrompt::Tokens(_) => 1,
        CompletionPrompt::Texts(texts) => texts.len(),
        CompletionPrompt::TokenLists(lists) => lists.len(),
    };
    if !(1..=MAX_PROMPTS).contains(&count) {
        let detail = format!("a request has 1 to {MAX_PROMPTS} prompts");
        return Err(Problem::field("prompt", detail).with_limit(MAX_PROMPTS));
    }
    let at = |number: usize| format!("prompt[{number}]");
    match prompts {
        CompletionPrompt::Text(text) => Ok(vec![prompt::of_text(ready, text, "prompt")?]),
        CompletionPrompt::Tokens(tokens) => Ok(vec![prompt::of_tokens(ready, tokens.clone(), "prompt")?]),
        CompletionPrompt::Texts(texts) => {
            texts.iter().enumerate().map(|(number, text)| prompt::of_text(ready, text, &at(number))).collect()
        }
        CompletionPrompt::TokenLists(lists) => lists
            .iter()
            .enumerate()
            .map(|(number, tokens)| prompt::of_tokens(ready, tokens.clone(), &at(number)))
            .collect(),
    }
}
