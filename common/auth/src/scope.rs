use std::fmt;
use std::str::FromStr;

use videosdgx_api::Scope;

use crate::AuthError;

/// The scope's bit in a [`Scopes`].
fn bit(scope: Scope) -> u8 {
    match scope {
        Scope::Generate => 1,
        Scope::Read => 2,
        Scope::Admin => 4,
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope at all.
    pub const NONE: Scopes = Scopes(0);

    /// Every scope.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Reads a `scope` claim: words separated by spaces. Words of other systems are ignored, as RFC 8693 asks.
    pub fn from_claim(claim: &str) -> Self {
        claim.split(' ').filter_map(|word| word.parse::<Scope>().ok()).collect()
    }

    /// Whether `scope` is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// The scopes in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Scopes(scopes.into_iter().fold(0, |bits, scope| bits | bit(scope)))
    }
}

impl<const N: usize> From<[Scope; N]> for Scopes {
    fn from(scopes: [Scope; N]) -> Self {
        scopes.into_iter().collect()
    }
}

/// The `scope` claim: words separated by spaces.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{scope}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Strict form for configuration and command lines: words separated by spaces or commas, none unknown.
impl FromStr for Scopes {
    type Err = AuthError;

    fn from_str(text: &str) -> Result<Self, AuthError> {
        text.split([' ', ','])
            .filter(|word| !word.is_empty())
            .map(|word| Ok(word.parse::<Scope>()?))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_round_trips_and_foreign_words_are_ignored() {
        let scopes = Scopes::from_claim("openid read generate profile");
        assert!(scopes.contains(Scope::Read) && scopes.contains(Scope::Generate));
        assert!(!scopes.contains(Scope::Admin));
        assert_eq!(scopes.to_string(), "generate read");
        assert_eq!(Scopes::from_claim(&scopes.to_string()), scopes);
    }

    #[test]
    fn words_must_match_exactly() {
        for claim in ["Admin", "admin,read", "administrator", "adm in", "", "admin\tread", "*"] {
            assert_eq!(Scopes::from_claim(claim), Scopes::NONE, "{claim:?}");
        }
    }

    #[test]
    fn the_strict_form_names_the_unknown_word() {
        assert_eq!("read, generate".parse::<Scopes>().unwrap(), [Scope::Generate, Scope::Read].into());
        let error = "read wirte".parse::<Scopes>().unwrap_err().to_string();
        assert!(error.contains("wirte") && error.contains("generate"), "{error}");
    }
}
