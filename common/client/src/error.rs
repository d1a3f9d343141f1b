use std::path::{Path, PathBuf};

use videosdgx_api::Problem;

/// Why a call of the client failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's URL is invalid.
    #[error("the server's URL is not usable: {0}")]
    InvalidUrl(String),
    /// The token contains invalid characters.
    #[error("the token is not usable: it contains invalid characters")]
    InvalidToken,
    /// The server refused the request.
    #[error("{}", one_line(.0))]
    Refused(Box<Problem>),
    /// The response is neither the documented one nor a problem document.
    #[error("the server responded with status {status}, but not like a VideosDGX gateway; check the address")]
    Unexpected {
        /// HTTP status.
        status: u16,
    },
    /// No connection could be opened.
    #[error("{host} cannot be reached ({reason}); is it running?")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The innermost cause, without a URL.
        reason: String,
        /// The error of the HTTP client, without a URL.
        source: reqwest::Error,
    },
    /// The connection failed during the request, or timed out.
    #[error("the connection to {host} failed ({reason})")]
    Broken {
        /// Host and port.
        host: String,
        /// The innermost cause, without a URL.
        reason: String,
        /// The error of the HTTP client, without a URL, unless the server closed the connection early.
        source: Option<reqwest::Error>,
    },
    /// The server ended a stream with an error.
    #[error("the answer was cut off: {message} ({code})")]
    CutOff {
        /// Stable error code.
        code: String,
        /// Message for people.
        message: String,
    },
    /// The response does not have the documented form.
    #[error("the answer cannot be read: {0}")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be used.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What was attempted, for example `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
}

/// Detail, field and limit of a problem in one line.
fn one_line(problem: &Problem) -> String {
    let mut line = problem.detail.clone();
    if let Some(field) = &problem.field
        && !line.contains(field.as_str())
    {
        line = format!("{field}: {line}");
    }
    line.push_str(&format!(" ({}", problem.code));
    if let Some(field) = &problem.field {
        line.push_str(&format!(", field {field}"));
    }
    if let Some(limit) = &problem.limit {
        line.push_str(&format!(", limit {limit}"));
    }
    if let Some(seconds) = problem.retry_after_seconds {
        line.push_str(&format!(", try again in {seconds} s"));
    }
    line.push(')');
    line
}

impl ClientError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// A response without the documented form, because of an error or for a reason in words.
    pub(crate) fn unreadable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unreadable(source.into())
    }

    /// Converts an error of reqwest; its URL, which may contain a signature, is left out.
    pub(crate) fn transport(error: reqwest::Error) -> Self {
        let host = error.url().map_or_else(|| "the server".to_owned(), host_of);
        let connect = error.is_connect();
        let error = error.without_url();
        let reason = innermost(&error);
        if connect {
            Self::Unreachable { host, reason, source: error }
        } else {
            Self::Broken { host, reason, source: Some(error) }
        }
    }

    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Refused(problem) => matches!(problem.status, 429 | 502 | 503 | 504),
            Self::Unexpected { status } => matches!(status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// HTTP status of the response, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::Unexpected { status } => Some(*status),
            _ => None,
        }
    }
}

/// `host:port` of a URL, the part that may be shown.
pub(crate) fn host_of(url: &url::Url) -> String {
    let host = url.host_str().unwrap_or("the server");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The innermost cause, which is the most specific: "connection refused", not "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_field_and_limit() {
        let problem = Problem::field("fps", "at most 60 are possible").with_limit(60);
        assert_eq!(
            ClientError::Refused(Box::new(problem)).to_string(),
            "fps: at most 60 are possible (invalid_field, field fps, limit 60)"
        );
    }
}
