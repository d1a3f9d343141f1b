//! The subprotocols that a client offers in `Sec-WebSocket-Protocol`: the message format and, from browsers, the token.

use super::Format;

/// Messages as JSON text.
pub(crate) const JSON: &str = "videosdgx.v1.json";
/// Messages as binary MessagePack.
pub(crate) const MSGPACK: &str = "videosdgx.v1.msgpack";
/// Prefix of a token. Browsers cannot set `Authorization` on a WebSocket, so they send the token as a subprotocol.
const TOKEN: &str = "bearer.";

/// The subprotocols of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfferedProtocols {
    /// The first known format; JSON if none was offered.
    pub(crate) format: Format,
    /// The subprotocol that the response must name, if a known one was offered.
    pub(crate) selected: Option<&'static str>,
    /// In the form of an `Authorization` header: `Bearer <token>`.
    pub(crate) tokens: Vec<String>,
    /// Subprotocols were offered, but none is known.
    pub(crate) unknown: bool,
}

impl OfferedProtocols {
    /// Parses all values of the header.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut offered = Self { format: Format::Json, selected: None, tokens: Vec::new(), unknown: false };
        let mut others = 0;
        for protocol in values.into_iter().flat_map(|value| value.split(',')).map(str::trim) {
            if let Some(token) = protocol.strip_prefix(TOKEN) {
                offered.tokens.push(format!("Bearer {token}"));
                continue;
            }
            let known = match protocol {
                JSON => Some((Format::Json, JSON)),
                MSGPACK => Some((Format::MessagePack, MSGPACK)),
                _ => None,
            };
            match known {
                Some((format, name)) if offered.selected.is_none() => {
                    (offered.format, offered.selected) = (format, Some(name));
                }
                Some(_) => {}
                None => others += usize::from(!protocol.is_empty()),
            }
        }
        offered.unknown = others > 0 && offered.selected.is_none();
        offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_format_is_selected_and_tokens_are_separated() {
        for (values, format, selected, tokens, unknown) in [
            (&[][..], Format::Json, None, &[][..], false),
            (&["videosdgx.v1.json"], Format::Json, Some(JSON), &[], false),
            (
                &["chat, videosdgx.v1.msgpack, videosdgx.v1.json"],
                Format::MessagePack,
                Some(MSGPACK),
                &[],
                false,
            ),
            (&["bearer.a.b.c", "videosdgx.v1.json"], Format::Json, Some(JSON), &["Bearer a.b.c"], false),
            (&["bearer.x"], Format::Json, None, &["Bearer x"], false),
            (&["graphql-ws"], Format::Json, None, &[], true),
        ] {
            let offered = OfferedProtocols::of(values.iter().copied());
            assert_eq!(offered.format, format, "{values:?}");
            assert_eq!((offered.selected, offered.unknown), (selected, unknown), "{values:?}");
            assert_eq!(offered.tokens, tokens, "{values:?}");
        }
    }
}
