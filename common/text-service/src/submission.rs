//! From a checked request to the engine: the only place that fills in a [`GenerationRequest`].

use std::sync::Arc;

use videosdgx_api::{Code, Problem};
use videosdgx_shell::{HandlerResult, run_blocking};
use videosdgx_text::{
    CompileError, Completed, Constraint, ConstraintError, FinishReason, GenerationRequest, OutputDelta,
    OutputParser, PreparedConstraint, StreamSummary, SubmitError, ToolSet, Usage,
};

use crate::{
    constraint::OutputConstraint,
    output::{OutputEnd, OutputEvent, OutputReader, OutputStream},
    prompt::TokenizedPrompt,
    runtime::ModelRuntime,
    sampling::ResolvedSampling,
};

/// One prompt with the checked settings of its answers.
#[derive(Debug, Clone)]
pub(crate) struct GenerationTask {
    pub(crate) prompt: TokenizedPrompt,
    /// With `stop.max_tokens` set.
    pub(crate) sampling: ResolvedSampling,
    pub(crate) constraint: Option<OutputConstraint>,
    /// Number of alternatives whose log-probabilities are reported; None: no log-probabilities.
    pub(crate) logprobs: Option<u8>,
    /// Some: the output is parsed into reasoning, content and calls of these tools. None: all text is content.
    pub(crate) tools: Option<ToolSet>,
}

impl GenerationTask {
    /// The engine's request for answer number `answer` (from 0).
    pub(crate) fn engine_request(&self, principal: &str, id: String, answer: u32) -> GenerationRequest {
        let mut sampling = self.sampling.params.clone();
        // With the same seed all answers to the prompt would be identical.
        sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(u64::from(answer)));
        GenerationRequest {
            id,
            principal: principal.to_owned(),
            prompt: self.prompt.prompt.clone(),
            sampling,
            stop: self.sampling.stop.clone(),
            constraint: self.constraint.as_ref().map(|constraint| constraint.constraint.clone()),
            logprobs: self.logprobs,
            priority: self.sampling.priority,
            deadline: self.sampling.deadline,
        }
    }

    /// Reads an output of this task.
    pub(crate) fn output_reader(&self, runtime: &ModelRuntime) -> OutputReader {
        let parser = self.tools.clone().map(|tools| {
            // A conversation holds the calls of several outputs: their ids must differ.
            let id = uuid::Uuid::new_v4().simple().to_string();
            OutputParser::new(runtime.format, tools, self.prompt.thinking, &id)
        });
        OutputReader::new(parser, self.sampling.stop.strings.clone(), runtime.metrics.clone())
    }

    /// The engine's refusal of this task.
    pub(crate) fn refusal(&self, error: SubmitError) -> Problem {
        let detail = error.to_string();
        match error {
            SubmitError::QueueFull { waiting, retry_after, .. } => Problem::new(Code::QueueFull, detail)
                .with_limit(waiting)
                .with_retry_after(retry_after.as_secs()),
            SubmitError::Draining => Problem::new(Code::Draining, detail).with_retry_after(5),
            SubmitError::ContextExceeded { max_context, .. } => {
                Problem::new(Code::ContextLengthExceeded, detail).with_limit(max_context)
            }
            SubmitError::Invalid { field, reason } => Problem::field(field, reason),
            SubmitError::Constraint(reason) => {
                let field = self.constraint.as_ref().map(|constraint| constraint.field.as_str());
                constraint_problem(field.unwrap_or("response_format"), &reason)
            }
            SubmitError::DuplicateId(_) => Problem::field("request_id", detail),
        }
    }
}

/// Compiles the task's constraint, if it has one, on the threads for that. The result makes submitting the task quick while it is
/// held.
pub(crate) async fn prepare(
    runtime: &ModelRuntime,
    principal: &str,
    task: &mut GenerationTask,
) -> Result<Option<PreparedConstraint>, Problem> {
    let Some(requested) = &mut task.constraint else { return Ok(None) };
    let compile = async |constraint: &Constraint| runtime.constraints.compile(principal, constraint)?.await;
    let compiled = match (compile(&requested.constraint).await, requested.loosened.take()) {
        (Err(CompileError::Constraint(ConstraintError::Invalid(_))), Some(loosened)) => {
            requested.constraint = loosened;
            compile(&requested.constraint).await
        }
        (compiled, _) => compiled,
    };
    compiled.map(Some).map_err(|error| match error {
        CompileError::Busy { waiting } => {
            Problem::new(Code::QueueFull, error.to_string()).with_limit(waiting).with_retry_after(2)
        }
        CompileError::ShareUsed { share } => {
            Problem::new(Code::QueueFull, error.to_string()).with_limit(share).with_retry_after(2)
        }
        CompileError::Constraint(error) => constraint_problem(&requested.field, &error.to_string()),
    })
}

fn constraint_problem(field: &str, reason: &str) -> Problem {
    Problem::field(field, reason.chars().take(500).collect::<String>())
}

/// Refuses a request while the queue is full, before work is spent on its prompt.
///
/// # Errors
/// 429 `queue_full`.
pub(crate) fn refuse_when_full(runtime: &ModelRuntime, principal: &str) -> HandlerResult<()> {
    runtime.engine.check_queue(principal).map_err(|error| {
        let problem = Problem::new(Code::QueueFull, error.to_string());
        match error {
            SubmitError::QueueFull { waiting, retry_after, .. } => {
                problem.with_limit(waiting).with_retry_after(retry_after.as_secs())
            }
            _ => problem.with_retry_after(1),
        }
        .into()
    })
}

/// Submits the answers of all tasks (`n` each) to the engine, in order: all or none. Engine ids begin with `id`.
pub(crate) async fn submit(
    runtime: &Arc<ModelRuntime>,
    principal: &str,
    id: &str,
    mut tasks: Vec<GenerationTask>,
) -> HandlerResult<Vec<OutputStream>> {
    let mut prepared = Vec::new();
    for task in &mut tasks {
        prepared.push(prepare(runtime, principal, task).await?);
    }
    let runtime = Arc::clone(runtime);
    let (principal, id) = (principal.to_owned(), id.to_owned());
    // Copying the tables of a large constraint takes time.
    let submitted = run_blocking(move || {
        let mut outputs: Vec<OutputStream> = Vec::new();
        for task in &tasks {
            for answer in 0..task.sampling.n {
                let index = u32::try_from(outputs.len()).unwrap_or(u32::MAX);
                let id = format!("{id}-{index}");
                let request = task.engine_request(&principal, id.clone(), answer);
                let events = runtime.engine.submit(request).map_err(|error| task.refusal(error))?;
                outputs.push(OutputStream::new(index, events, task.output_reader(&runtime)));
            }
        }
        drop(prepared);
        Ok(outputs)
    });
    Ok(submitted.await?.map_err(|problem: Problem| problem)?)
}

/// The ends of outputs without a token, `n` for each task.
pub(crate) fn empty_outputs(tasks: &[GenerationTask]) -> Vec<(u32, OutputEvent)> {
    let answers = tasks.iter().flat_map(|task| std::iter::repeat_n(task, task.sampling.n as usize));
    let end = |task: &GenerationTask| {
        OutputEvent::End(Box::new(OutputEnd {
            delta: OutputDelta::default(),
            completed: Completed {
                reason: FinishReason::Length,
                text: String::new(),
                matched: None,
                usage: Usage { prompt_tokens: task.prompt.prompt.tokens.len(), ..Usage::default() },
                summary: StreamSummary::default(),
            },
            has_tool_calls: false,
        }))
    };
    (0_u32..).zip(answers.map(end)).collect()
}
