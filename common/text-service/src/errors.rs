//! Errors that end a generation, as problems and as messages of a stream.

use serde_json::{Value, json};
use videosdgx_api::{Code, Problem, StreamProblem};
use videosdgx_shell::hide_folders;
use videosdgx_text::{ErrorCode, FinishReason, StreamError};

/// The problem of a response whose generation ended with an error. `error`: the error that ended it, if one was reported.
pub(crate) fn generation_problem(error: Option<&StreamError>, reason: FinishReason) -> Problem {
    let detail =
        error.map_or_else(|| "the answer was not finished".to_owned(), |error| error.message.clone());
    match (error.map(|error| error.code), reason) {
        (Some(ErrorCode::DeadlineExceeded), _) | (None, FinishReason::Deadline) => {
            Problem::new(Code::RequestTimeout, "the request's timeout has passed")
        }
        (Some(ErrorCode::MemoryLimitExceeded), _) => {
            Problem::new(Code::InsufficientMemory, detail).with_retry_after(10)
        }
        (Some(ErrorCode::ModelUnavailable), _) => Problem::new(Code::Overloaded, detail).with_retry_after(10),
        (Some(ErrorCode::Draining), _) => Problem::new(Code::Draining, detail).with_retry_after(5),
        (Some(ErrorCode::NumericalFailure), _) => Problem::new(Code::NumericalFailure, detail),
        (Some(ErrorCode::ConstraintFailed), _) => Problem::field("response_format", detail),
        _ => Problem::new(Code::Internal, detail),
    }
}

/// The engine's error as the `error` message of a stream.
pub(crate) fn stream_problem(error: &StreamError) -> StreamProblem {
    StreamProblem {
        code: error.code.as_str().to_owned(),
        message: hide_folders(&error.message).into_owned(),
        recoverable: error.recoverable,
        field: None,
        line: None,
        retry_after_seconds: None,
    }
}

/// A refused request as the `error` message of a stream; other generations of the stream continue.
pub(crate) fn refusal(problem: Problem) -> StreamProblem {
    StreamProblem {
        // Details of internal errors are only logged.
        message: if problem.code == Code::Internal.as_str() {
            tracing::error!(error = problem.detail, "internal_error");
            "an internal error occurred; see the service's log".to_owned()
        } else {
            hide_folders(&problem.detail).into_owned()
        },
        recoverable: matches!(problem.status, 429 | 503),
        code: problem.code,
        field: problem.field,
        line: None,
        retry_after_seconds: problem.retry_after_seconds,
    }
}

/// An error in a stream of OpenAI's chunks: this API's form, with the fields that OpenAI's clients read.
pub(crate) fn chunk_error(error: &StreamError) -> Value {
    let kind =
        if error.code == ErrorCode::DeadlineExceeded { "invalid_request_error" } else { "server_error" };
    json!({
        "type": "error",
        "error": {
            "code": error.code.as_str(),
            "message": hide_folders(&error.message),
            "recoverable": error.recoverable,
            "type": kind,
            "param": null,
        },
    })
}
