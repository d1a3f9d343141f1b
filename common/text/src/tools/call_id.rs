//! Ids of tool calls.

use sha2::{Digest as _, Sha256};

/// Letters and digits of an id.
const LENGTH: usize = 24;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The id of call number `index` of the output `output`: `call_` and 24 letters and digits, as in OpenAI's answers, since
/// some clients and templates expect this form.
pub(super) fn call_id(output: &str, index: usize) -> String {
    let digest = Sha256::digest(format!("{index}:{output}"));
    let letters =
        digest.iter().take(LENGTH).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
    std::iter::once("call_".to_owned()).chain(letters.map(String::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_openais_form_and_differ() {
        let ids = [call_id("a", 0), call_id("a", 1), call_id("b", 0), call_id("1:a", 0), call_id("a", 10)];
        for id in &ids {
            let letters = id.strip_prefix("call_").expect("the prefix");
            assert!(letters.len() == 24 && letters.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        }
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
        assert_eq!(call_id("a", 0), ids[0]);
    }
}
