use std::path::{Path, PathBuf};

use videosdgx_api::Problem;

/// Why a call did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's address cannot be used.
    #[error("the server's address is not usable: {0}")]
    InvalidUrl(String),
    /// The token has characters that no token has.
    #[error("the token is not usable: it holds characters that no token has")]
    InvalidToken,
    /// The server said no, in its own words.
    #[error("{}", say(.0))]
    Refused(Box<Problem>),
    /// An answer that is neither the one promised nor a problem document.
    #[error("the server answered with status {status}, not as a VideosDGX gateway does; check the address")]
    Unexpected {
        /// HTTP status.
        status: u16,
    },
    /// Nobody answered.
    #[error("{host} cannot be reached ({reason}); is it running?")]
    Unreachable {
        /// Host and port.
        host: String,
        /// Without any address in it.
        reason: String,
    },
    /// The connection broke, or it took too long.
    #[error("the connection to {host} broke ({reason})")]
    Broken {
        /// Host and port.
        host: String,
        /// Without any address in it.
        reason: String,
    },
    /// An answer that had begun was ended by the server, in its own words.
    #[error("the answer broke off: {message} ({code})")]
    BrokenOff {
        /// Stable code.
        code: String,
        /// For people.
        message: String,
    },
    /// The answer does not read as the API promises.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
    /// A file could not be used.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// For example `write`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Detail, field and limit of a problem in one line.
fn say(problem: &Problem) -> String {
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

    /// Maps reqwest's error; its address, which may carry a signature, is left out.
    pub(crate) fn transport(error: reqwest::Error) -> Self {
        let host = error.url().map_or_else(|| "the server".to_owned(), host_of);
        let connect = error.is_connect();
        let error = error.without_url();
        let reason = innermost(&error);
        if connect { Self::Unreachable { host, reason } } else { Self::Broken { host, reason } }
    }

    /// Whether the same call may well succeed a little later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Refused(problem) => matches!(problem.status, 429 | 502 | 503 | 504),
            Self::Unexpected { status } => matches!(status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// The HTTP status behind it, if there is one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::Unexpected { status } => Some(*status),
            _ => None,
        }
    }
}

/// `host:port` of an address: all of it that may be shown.
pub(crate) fn host_of(url: &url::Url) -> String {
    let host = url.host_str().unwrap_or("the server");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The cause at the bottom, which says most: "connection refused", not "error sending request".
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
    fn a_problem_is_told_with_its_field_and_limit() {
        let problem = Problem::field("fps", "at most 60 are possible").with_limit(60);
        assert_eq!(
            ClientError::Refused(Box::new(problem)).to_string(),
            "fps: at most 60 are possible (invalid_field, field fps, limit 60)"
        );
    }
}
