use std::sync::Arc;

use crate::{Denied, Scope, Scopes};

/// Who is asking: the verified `sub` of a token, and what the token allows. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    subject: Arc<str>,
    scopes: Scopes,
}

impl Principal {
    /// A principal that has been verified by other means, for tests and embedding.
    pub fn new(subject: impl Into<Arc<str>>, scopes: impl Into<Scopes>) -> Self {
        Self { subject: subject.into(), scopes: scopes.into() }
    }

    /// The `sub` claim: owns jobs, is counted by limits.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The `sub` claim as a cheap shared string.
    pub fn shared_subject(&self) -> Arc<str> {
        Arc::clone(&self.subject)
    }

    /// What the token allows.
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// `Err(Denied::InsufficientScope)` when the token lacks `scope`.
    pub fn require(&self, scope: Scope) -> Result<(), Denied> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(Denied::InsufficientScope { required: scope }) }
    }
}
