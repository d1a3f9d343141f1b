use videosdgx_api::Principal;

use crate::{Denied, Scope, Scopes};

/// A verified caller: the principal that its token names, and what the token allows. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    principal: Principal,
    scopes: Scopes,
}

impl Identity {
    /// An identity that has been verified by other means, for tests and embedding.
    pub fn new(principal: Principal, scopes: impl Into<Scopes>) -> Self {
        Self { principal, scopes: scopes.into() }
    }

    /// The owner of jobs and streams: the token's `sub` claim.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What the token allows.
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// Whether the token has `scope`.
    ///
    /// # Errors
    /// [`Denied::InsufficientScope`] when it has not.
    pub fn require(&self, scope: Scope) -> Result<(), Denied> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(Denied::InsufficientScope { required: scope }) }
    }
}
