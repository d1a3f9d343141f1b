use std::process::ExitCode;

use videosdgx_client::{ClientError, CredentialsError, pull::PullError};

/// Exit statuses, as `--help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Local = 1,
    Refused = 3,
    Unauthorized = 4,
    Unavailable = 5,
    JobFailed = 6,
    JobCancelled = 7,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: a message and an exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub(crate) fn print(&self) {
        eprintln!("error: {}", self.message);
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match (&error, error.status()) {
            (_, Some(401 | 403)) => Exit::Unauthorized,
            (_, Some(500..)) | (ClientError::Unreachable { .. } | ClientError::Broken { .. }, _) => {
                Exit::Unavailable
            }
            (_, Some(_)) => Exit::Refused,
            (ClientError::CutOff { .. }, _) => Exit::JobFailed,
            _ => Exit::Local,
        };
        let hint = if exit == Exit::Unauthorized {
            "\n  set VIDEOSDGX_TOKEN to a token, or run this where the gateway's key folder is (VIDEOSDGX_AUTH_DIR); \
             `videosdgx token` mints one there"
        } else {
            ""
        };
        Self::new(exit, format!("{error}{hint}"))
    }
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        Self::new(Exit::Unauthorized, error.to_string())
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        let exit = match &error {
            PullError::Refused { status: 401 | 403, .. } => Exit::Unauthorized,
            PullError::Refused { status: 500.., .. } | PullError::Transport { .. } => Exit::Unavailable,
            PullError::Refused { .. } => Exit::Refused,
            _ => Exit::Local,
        };
        Self::new(exit, error.to_string())
    }
}
