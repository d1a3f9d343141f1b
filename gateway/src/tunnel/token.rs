//! The token of a browser's WebSocket. A page cannot set `Authorization` there, so it offers the subprotocol
//! `bearer.<token>` in addition to the one that it uses.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};

const PREFIX: &str = "bearer.";

/// Moves a token from the offered subprotocols to `Authorization`, so that it is not forwarded as a protocol. Several
/// tokens become several headers, which authentication refuses.
pub(crate) fn move_to_authorization(headers: &mut HeaderMap) {
    let offered: Vec<String> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .collect();
    let (tokens, protocols): (Vec<String>, Vec<String>) =
        offered.into_iter().partition(|protocol| protocol.starts_with(PREFIX));
    if tokens.is_empty() {
        return;
    }
    for token in tokens {
        if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", &token[PREFIX.len()..])) {
            value.set_sensitive(true);
            headers.append(AUTHORIZATION, value);
        }
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if !protocols.is_empty()
        && let Ok(value) = HeaderValue::try_from(protocols.join(", "))
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&'static str]) -> (Vec<String>, Option<String>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line));
        }
        move_to_authorization(&mut headers);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        (
            headers.get_all(AUTHORIZATION).iter().map(text).collect(),
            headers.get(SEC_WEBSOCKET_PROTOCOL).map(text),
        )
    }

    #[test]
    fn the_token_is_moved_and_the_protocols_stay() {
        assert_eq!(
            after(&["a.json, bearer.x.y.z, b"]),
            (vec!["Bearer x.y.z".into()], Some("a.json, b".into()))
        );
        assert_eq!(after(&["bearer.t", "a"]), (vec!["Bearer t".into()], Some("a".into())));
        assert_eq!(after(&["bearer.t"]), (vec!["Bearer t".into()], None));
        assert_eq!(after(&["a, b"]), (vec![], Some("a, b".into())));
        assert_eq!(after(&["bearer.t, bearer.u"]).0.len(), 2);
    }
}
