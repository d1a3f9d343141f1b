use crate::Scope;

/// Why a request is refused. From outside every `Unauthenticated` looks the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token, or one that does not hold: `401`.
    #[error("authentication is required: send a valid token as `Authorization: Bearer`")]
    Unauthenticated {
        /// What was wrong, for the log at debug level only; never part of an answer.
        reason: &'static str,
    },
    /// A good token without the scope that this takes: `403`.
    #[error("the token lacks the scope `{required}`")]
    InsufficientScope {
        /// The scope to ask for.
        required: Scope,
    },
}

impl Denied {
    pub(crate) fn unauthenticated(reason: &'static str) -> Self {
        Denied::Unauthenticated { reason }
    }

    /// The HTTP status: 401 or 403.
    pub fn status(&self) -> u16 {
        match self {
            Denied::Unauthenticated { .. } => 401,
            Denied::InsufficientScope { .. } => 403,
        }
    }

    /// The stable problem code: `unauthenticated` or `insufficient_scope`.
    pub fn code(&self) -> &'static str {
        match self {
            Denied::Unauthenticated { .. } => "unauthenticated",
            Denied::InsufficientScope { .. } => "insufficient_scope",
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
