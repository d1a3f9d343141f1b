//! From a completion request to tasks for the engine, one per prompt.

use std::sync::Arc;

use videosdgx_api::{
    Problem,
    openai::{CompletionPrompt, CompletionRequest},
};
use videosdgx_shell::{HandlerResult, run_blocking};
use videosdgx_text::ShowSpecial;

use crate::{
    constraint::OutputConstraintFields,
    limits::{COMPLETION_TOKENS, MAX_ANSWERS, MAX_LOGPROBS, MAX_PROMPTS},
    prompt::{self, TokenizedPrompt},
    runtime::ModelRuntime,
    sampling::RawSamplingParams,
    submission::GenerationTask,
};

/// The tasks of a request.
#[derive(Debug)]
pub(crate) struct CompletionTasks {
    /// In the order of the prompts.
    pub(crate) tasks: Vec<GenerationTask>,
    /// For each prompt the text that its answers begin with; empty without `echo`.
    pub(crate) echoes: Vec<String>,
    /// Answers per prompt.
    pub(crate) n: u32,
}

/// Checks every field of `request` and tokenizes its prompts.
pub(crate) async fn tasks_of_request(
    runtime: &Arc<ModelRuntime>,
    request: &CompletionRequest,
) -> HandlerResult<CompletionTasks> {
    if request.stream_options.is_some() && request.stream != Some(true) {
        return Err(Problem::field("stream_options", "only allowed with \"stream\": true").into());
    }
    if request.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return Err(Problem::field("suffix", "suffix is not supported").into());
    }
    let sampling = RawSamplingParams::from(request).resolve(runtime.checkpoint_sampling())?;
    let n = sampling.n;
    if request.best_of.is_some_and(|best_of| best_of != n) {
        let detail = "best_of must equal n: choosing the best of more answers is not supported";
        return Err(Problem::field("best_of", detail).with_limit(n).into());
    }
    let logprobs = match request.logprobs {
        Some(top) if top > MAX_LOGPROBS => {
            let detail = format!("logprobs must be 0 to {MAX_LOGPROBS}");
            return Err(Problem::field("logprobs", detail).with_limit(MAX_LOGPROBS).into());
        }
        top => top.map(|top| u8::try_from(top).unwrap_or(0)),
    };
    let echo = request.echo == Some(true);
    if echo && logprobs.is_some() {
        let detail =
            "log-probabilities of an echoed prompt are not supported: send echo or logprobs, not both";
        return Err(Problem::field("logprobs", detail).into());
    }
    let constraint = OutputConstraintFields::from(request).resolve()?;
    let (shared, prompts) = (Arc::clone(runtime), request.prompt.clone());
    let prompts = run_blocking(move || tokenize(&shared, &prompts)).await??;
    let answers = prompts.len() * n as usize;
    let max_answers = MAX_PROMPTS.max(MAX_ANSWERS as usize);
    if answers > max_answers {
        let detail = format!("prompts times n must be at most {max_answers}");
        return Err(Problem::field("n", detail).with_limit(max_answers).into());
    }
    let mut tasks = Vec::with_capacity(prompts.len());
    let mut echoes = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let mut sampling = sampling.clone();
        // Only the prompt is wanted: it may fill the context.
        let is_empty = request.max_tokens == Some(0) && prompt.prompt.tokens.len() <= runtime.max_context;
        sampling.stop.max_tokens = match is_empty {
            true => 0,
            false => prompt::output_limit(
                runtime,
                &prompt.prompt,
                request.max_tokens,
                Some(COMPLETION_TOKENS),
                "max_tokens",
            )
            .map_err(|problem| with_prompt_field(problem, request.max_tokens))?,
        };
        let text = runtime.tokenizer.decode(&prompt.prompt.tokens, ShowSpecial::Skip);
        echoes.push(if echo { text } else { String::new() });
        tasks.push(GenerationTask {
            prompt,
            sampling,
            constraint: constraint.clone(),
            logprobs,
            tools: None,
        });
    }
    Ok(CompletionTasks { tasks, echoes, n })
}

/// Names `prompt` when the prompt alone does not fit into the context.
fn with_prompt_field(mut problem: Problem, max_tokens: Option<u64>) -> Problem {
    if max_tokens.is_none() || problem.field.as_deref() == Some("messages") {
        problem.field = Some("prompt".to_owned());
    }
    problem
}

fn tokenize(runtime: &ModelRuntime, prompts: &CompletionPrompt) -> Result<Vec<TokenizedPrompt>, Problem> {
    let count = match prompts {
        CompletionPrompt::Text(_) | CompletionPrompt::Tokens(_) => 1,
        CompletionPrompt::Texts(texts) => texts.len(),
        CompletionPrompt::TokenLists(lists) => lists.len(),
    };
    if !(1..=MAX_PROMPTS).contains(&count) {
        let detail = format!("a request must have 1 to {MAX_PROMPTS} prompts");
        return Err(Problem::field("prompt", detail).with_limit(MAX_PROMPTS));
    }
    let field = |number: usize| format!("prompt[{number}]");
    match prompts {
        CompletionPrompt::Text(text) => Ok(vec![prompt::of_text(runtime, text, "prompt")?]),
        CompletionPrompt::Tokens(tokens) => Ok(vec![prompt::of_tokens(runtime, tokens.clone(), "prompt")?]),
        CompletionPrompt::Texts(texts) => texts
            .iter()
            .enumerate()
            .map(|(number, text)| prompt::of_text(runtime, text, &field(number)))
            .collect(),
        CompletionPrompt::TokenLists(lists) => lists
            .iter()
            .enumerate()
            .map(|(number, tokens)| prompt::of_tokens(runtime, tokens.clone(), &field(number)))
            .collect(),
    }
}
