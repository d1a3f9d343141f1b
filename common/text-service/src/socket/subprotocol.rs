//! What a client offers in `Sec-WebSocket-Protocol`: the form of messages, and from a browser its token.

use super::Format;

/// Messages as JSON text.
pub(crate) const JSON: &str = "videosdgx.v1.json";
/// Messages as binary MessagePack.
pub(crate) const MSGPACK: &str = "videosdgx.v1.msgpack";
/// A page cannot set `Authorization`: it offers its token beside the protocol that it wants to speak.
const TOKEN: &str = "bearer.";

/// What was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    /// The first known form; JSON for who offers none.
    pub(crate) format: Format,
    /// What the answer must name: the form, when one was offered.
    pub(crate) answer: Option<&'static str>,
    /// As `Authorization` would have it: `Bearer <token>`.
    pub(crate) tokens: Vec<String>,
    /// Something was offered, and none of it is known.
    pub(crate) unknown: bool,
}

impl Offered {
    /// From all values of the header.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut offered = Self { format: Format::Json, answer: None, tokens: Vec::new(), unknown: false };
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
                Some((format, name)) if offered.answer.is_none() => {
                    (offered.format, offered.answer) = (format, Some(name));
                }
                Some(_) => {}
                None => others += usize::from(!protocol.is_empty()),
            }
        }
        offered.unknown = others > 0 && offered.answer.is_none();
        offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_form_is_spoken_and_tokens_are_set_apart() {
        for (values, format, answer, tokens, unknown) in [
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
            let offered = Offered::of(values.iter().copied());
            assert_eq!(offered.format, format, "{values:?}");
            assert_eq!((offered.answer, offered.unknown), (answer, unknown), "{values:?}");
            assert_eq!(offered.tokens, tokens, "{values:?}");
        }
    }
}
