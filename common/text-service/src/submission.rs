//! Handing checked requests to the engine, and its refusals as problems.

use std::sync::Arc;

use videosdgx_api::{Code, Problem};
use videosdgx_shell::{HandlerResult, run_blocking};
use videosdgx_text::{GenerationRequest, OutputParser, SubmitError, TokenStream, ToolSet};

use crate::{
    knobs::Choosing,
    output::{Output, Reader},
    prompt::Written,
    ready::Ready,
    service::TextService,
    structure::Structure,
};

/// One prompt with everything that was asked for its answers.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) written: Written,
    /// `stop.max_tokens` filled in.
    pub(crate) choosing: Choosing,
    pub(crate) structure: Option<Structure>,
    pub(crate) logprobs: Option<u8>,
    /// Whether the answer is taken apart into thoughts, content and calls of these tools.
    pub(crate) parse: Option<ToolSet>,
}

/// Queues each task's answers (`n` each), in order; all or none. `id` names them.
pub(crate) async fn submit(
    service: &Arc<TextService>,
    ready: &Arc<Ready>,
    principal: &str,
    id: &str,
    tasks: Vec<Task>,
) -> HandlerResult<Vec<Output>> {
    let (shared, ready) = (Arc::clone(service), Arc::clone(ready));
    let (principal, id) = (principal.to_owned(), id.to_owned());
    // A large grammar takes its time to compile.
    let submitted = run_blocking(move || {
        let mut outputs: Vec<Output> = Vec::new();
        for task in &tasks {
            for answer in 0..task.choosing.n {
                let index = u32::try_from(outputs.len()).unwrap_or(u32::MAX);
                let name = format!("{id}-{index}");
                let events = start(&ready, task, &principal, name.clone(), answer)?;
                let parser = task.parse.clone().map(|tools| {
                    OutputParser::new(ready.format, tools, task.written.thinking, &name.replace('-', "_"))
                });
                outputs.push(Output::new(
                    index,
                    events,
                    Reader::new(parser, task.choosing.stop.strings.clone(), shared.metrics.clone()),
                ));
            }
        }
        Ok(outputs)
    });
    Ok(submitted.await?.map_err(|problem: Problem| problem)?)
}

fn start(
    ready: &Ready,
    task: &Task,
    principal: &str,
    id: String,
    answer: u32,
) -> Result<TokenStream, Problem> {
    let mut sampling = task.choosing.sampling.clone();
    // One seed for several answers would make them all alike.
    sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(u64::from(answer)));
    let request = GenerationRequest {
        id,
        principal: principal.to_owned(),
        prompt: task.written.prompt.clone(),
        sampling,
        stop: task.choosing.stop.clone(),
        constraint: task.structure.as_ref().map(|structure| structure.constraint.clone()),
        logprobs: task.logprobs,
        priority: task.choosing.priority,
        deadline: task.choosing.deadline,
    };
    let field = task.structure.as_ref().map(|structure| structure.field.as_str());
    ready.engine.submit(request).map_err(|error| refusal(error, field))
}

/// `structure`: the field that asked for a constraint.
pub(crate) fn refusal(error: SubmitError, structure: Option<&str>) -> Problem {
    let detail = error.to_string();
    match error {
        SubmitError::QueueFull { waiting, retry_after } => {
            Problem::new(Code::QueueFull, detail).with_limit(waiting).with_retry_after(retry_after.as_secs())
        }
        SubmitError::Draining => Problem::new(Code::Draining, detail).with_retry_after(5),
        SubmitError::ContextExceeded { max_context, .. } => {
            Problem::new(Code::ContextLengthExceeded, detail).with_limit(max_context)
        }
        SubmitError::Invalid { field, reason } => Problem::field(field, reason),
        SubmitError::Constraint(reason) => {
            let reason: String = reason.chars().take(500).collect();
            Problem::field(structure.unwrap_or("response_format"), reason)
        }
        SubmitError::DuplicateId(_) => Problem::field("request_id", detail),
    }
}
