use videosdgx_api::{Code, Problem};

use crate::Scope;

/// Why a request is refused. Every `Unauthenticated` looks the same to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token, or an invalid one: `401`.
    #[error("authentication is required: send a valid token as `Authorization: Bearer`")]
    Unauthenticated {
        /// What was wrong, for the log at debug level only; never part of a response.
        reason: &'static str,
    },
    /// A valid token without the required scope: `403`.
    #[error("the token lacks the scope `{required}`")]
    InsufficientScope {
        /// The required scope.
        required: Scope,
    },
}

impl Denied {
    pub(crate) fn unauthenticated(reason: &'static str) -> Self {
        Denied::Unauthenticated { reason }
    }

    /// The stable problem code: `unauthorized` or `insufficient_scope`.
    pub fn code(&self) -> Code {
        match self {
            Denied::Unauthenticated { .. } => Code::Unauthorized,
            Denied::InsufficientScope { .. } => Code::InsufficientScope,
        }
    }

    /// The value of the `WWW-Authenticate` header (RFC 6750).
    pub fn www_authenticate(&self) -> &'static str {
        match self {
            Denied::Unauthenticated { .. } => "Bearer",
            Denied::InsufficientScope { required: Scope::Generate } => {
                "Bearer error=\"insufficient_scope\", scope=\"generate\""
            }
            Denied::InsufficientScope { required: Scope::Read } => {
                "Bearer error=\"insufficient_scope\", scope=\"read\""
            }
            Denied::InsufficientScope { required: Scope::Admin } => {
                "Bearer error=\"insufficient_scope\", scope=\"admin\""
            }
        }
    }
}

/// The body of the response; send [`Denied::www_authenticate`] as a header with it.
impl From<&Denied> for Problem {
    fn from(denied: &Denied) -> Self {
        Problem::new(denied.code(), denied.to_string())
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Self::from(&denied)
    }
}
