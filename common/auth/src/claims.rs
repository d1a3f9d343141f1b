use serde::Deserialize;

use crate::{Denied, MAX_TOKEN_BYTES};

/// Longest subject, in bytes.
pub(crate) const MAX_SUBJECT_BYTES: usize = 256;
const MAX_KEY_ID_BYTES: usize = 256;
/// Year 10,000: an `exp` beyond it is a mistake or an attack on the arithmetic.
const LATEST_TIME: f64 = 253_402_300_800.0;

/// The part of a JOSE header that decides anything. Serde refuses duplicates of these names.
#[derive(Deserialize)]
pub(crate) struct TokenHeader {
    pub(crate) alg: String,
    #[serde(default)]
    pub(crate) kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    // Keys come from configuration only. A token that brings its own, or says where to get one, or asks for an
    // extension that we do not know, is refused.
    #[serde(default)]
    jku: Option<serde_json::Value>,
    #[serde(default)]
    jwk: Option<serde_json::Value>,
    #[serde(default)]
    x5u: Option<serde_json::Value>,
    #[serde(default)]
    x5c: Option<serde_json::Value>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
    #[serde(default)]
    b64: Option<serde_json::Value>,
    #[serde(default)]
    enc: Option<serde_json::Value>,
    #[serde(default)]
    zip: Option<serde_json::Value>,
}

impl TokenHeader {
    /// Reads and checks the header of `token`, which has not been verified yet.
    pub(crate) fn parse(token: &str) -> Result<Self, Denied> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Denied::unauthenticated("the token is too long"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Denied::unauthenticated("the token has not three parts"));
        };
        if header.is_empty() || claims.is_empty() || signature.is_empty() {
            return Err(Denied::unauthenticated("a part of the token is empty"));
        }
        let header = decode_part(header).ok_or(Denied::unauthenticated("the header is not base64url"))?;
        let header: TokenHeader = serde_json::from_slice(&header)
            .map_err(|_| Denied::unauthenticated("the header is not a JSON object with `alg`"))?;
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Denied> {
        let brings_a_key = [&self.jku, &self.jwk, &self.x5u, &self.x5c].into_iter().any(Option::is_some);
        if brings_a_key {
            return Err(Denied::unauthenticated("the header brings its own key"));
        }
        if [&self.crit, &self.b64, &self.enc, &self.zip].into_iter().any(Option::is_some) {
            return Err(Denied::unauthenticated("the header asks for an unknown extension"));
        }
        if let Some(typ) = &self.typ
            && !["JWT", "at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
        {
            return Err(Denied::unauthenticated("the header's typ is not JWT"));
        }
        if self.kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KEY_ID_BYTES) {
            return Err(Denied::unauthenticated("the key id is empty or too long"));
        }
        Ok(())
    }
}

/// The claims that are used. Serde refuses duplicates of these names and values of another type.
#[derive(Deserialize)]
pub(crate) struct Claims {
    pub(crate) sub: String,
    /// Seconds since 1970.
    pub(crate) exp: f64,
    #[serde(default)]
    pub(crate) scope: Option<String>,
    // Checked by value in the library; named here so that duplicates and odd types are refused.
    #[serde(rename = "iss")]
    _iss: String,
    #[serde(rename = "aud")]
    _aud: Audience,
    #[serde(rename = "nbf", default)]
    _nbf: Option<f64>,
    #[serde(rename = "iat", default)]
    _iat: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(#[expect(dead_code, reason = "the library compares it; here only the type counts")] String),
    Many(#[expect(dead_code, reason = "the library compares it; here only the type counts")] Vec<String>),
}

impl Claims {
    /// Checks that the library does not make: the subject and the range of `exp`.
    pub(crate) fn check(&self) -> Result<(), Denied> {
        check_subject(&self.sub).map_err(Denied::unauthenticated)?;
        if !(0.0..LATEST_TIME).contains(&self.exp) {
            return Err(Denied::unauthenticated("exp is out of range"));
        }
        Ok(())
    }
}

/// A subject is 1 to 256 bytes of text without control characters.
pub(crate) fn check_subject(subject: &str) -> Result<(), &'static str> {
    if subject.trim().is_empty() || subject.len() > MAX_SUBJECT_BYTES {
        return Err("the subject is empty or longer than 256 bytes");
    }
    if subject.chars().any(char::is_control) {
        return Err("the subject has control characters");
    }
    Ok(())
}

fn decode_part(part: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()
}
