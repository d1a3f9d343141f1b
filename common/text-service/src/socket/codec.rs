//! Messages as JSON text or as MessagePack, with the same fields.

use serde::{Deserialize, de::DeserializeOwned};
use videosdgx_api::{ClientMessage, Code, Problem, ServerMessage};
use videosdgx_shell::body;

/// The encoding of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text frames.
    Json,
    /// Binary frames.
    MessagePack,
}

/// Maximum nesting depth of a MessagePack message.
const MAX_DEPTH: usize = 128;

/// The `type` of a message; other fields are ignored.
#[derive(Deserialize)]
struct MessageType {
    #[serde(rename = "type")]
    kind: String,
}

impl Format {
    /// Decodes a client's message; problems name the invalid field.
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<ClientMessage, Problem> {
        match self {
            Self::Json => decode_message(
                || parse_json(bytes),
                || parse_json(bytes),
                || parse_json(bytes),
                || parse_json(bytes),
            ),
            Self::MessagePack => decode_message(
                || parse_msgpack(bytes),
                || parse_msgpack(bytes),
                || parse_msgpack(bytes),
                || parse_msgpack(bytes),
            ),
        }
    }

    /// Encodes a service's message.
    pub(crate) fn encode(self, message: &ServerMessage) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(message).unwrap_or_default(),
            Self::MessagePack => rmp_serde::to_vec_named(message).unwrap_or_default(),
        }
    }
}

/// Decodes the type first and then the message as that type, so that problems name nested fields by their path.
fn decode_message(
    message_type: impl FnOnce() -> Result<MessageType, Problem>,
    generate: impl FnOnce() -> Result<videosdgx_api::StreamGenerate, Problem>,
    cancel: impl FnOnce() -> Result<videosdgx_api::StreamCancel, Problem>,
    resume: impl FnOnce() -> Result<videosdgx_api::StreamResume, Problem>,
) -> Result<ClientMessage, Problem> {
    match message_type()?.kind.as_str() {
        "generate" => generate().map(|request| ClientMessage::Generate(Box::new(request))),
        "cancel" => cancel().map(ClientMessage::Cancel),
        "resume" => resume().map(ClientMessage::Resume),
        other => {
            let other: String = other.chars().take(60).collect();
            Err(Problem::field(
                "type",
                format!("unknown message type {other:?}; send generate, cancel or resume"),
            ))
        }
    }
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    body::parse(bytes).map_err(|failure| failure.0)
}

fn parse_msgpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Serde would accept an array as a struct.
    if !matches!(bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(Problem::new(Code::InvalidBody, "a message must be a map"));
    }
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MAX_DEPTH);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let detail: String = error.inner().to_string().chars().take(300).collect();
        let path: String = path.trim_start_matches('.').chars().take(100).collect();
        let missing = detail.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match (path.as_str(), missing) {
            ("" | "?", None) => {
                Problem::new(Code::InvalidBody, format!("the message cannot be read: {detail}"))
            }
            ("" | "?", Some(field)) => Problem::field(field, detail.clone()),
            (path, _) => Problem::field(path, detail.clone()),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use videosdgx_api::{ServerEvent, StreamToken};

    use super::*;

    fn both(value: &Value) -> [Result<ClientMessage, Problem>; 2] {
        let packed = rmp_serde::to_vec_named(value).unwrap();
        [Format::Json.decode(value.to_string().as_bytes()), Format::MessagePack.decode(&packed)]
    }

    #[test]
    fn the_specifications_messages_are_decoded_in_both_formats() {
        let asked = json!({"type": "generate", "prompt": "a", "max_tokens": 100,
                           "params": {"temperature": 0.7, "top_p": 0.9}});
        for read in both(&asked) {
            let ClientMessage::Generate(read) = read.unwrap() else { panic!("{asked}") };
            assert_eq!((read.prompt.as_deref(), read.max_tokens), (Some("a"), Some(100)));
            assert_eq!(read.params.unwrap().temperature, Some(0.7));
        }
        for read in both(&json!({"type": "cancel"})) {
            assert_eq!(read.unwrap(), ClientMessage::Cancel(videosdgx_api::StreamCancel::default()));
        }
    }

    #[test]
    fn invalid_fields_are_named_in_both_formats() {
        for (message, field) in [
            (json!({}), "type"),
            (json!({"type": "sing"}), "type"),
            (json!({"type": 5}), "type"),
            (json!({"type": "generate", "prompt": 5}), "prompt"),
            (json!({"type": "generate", "prompt": "a", "temperature": 0}), "temperature"),
            (json!({"type": "generate", "prompt": "a", "params": {"heat": 0}}), "params.heat"),
            (json!({"type": "generate", "params": {"temperature": "hot"}}), "params.temperature"),
            (json!({"type": "generate", "messages": [{"role": "king"}]}), "messages[0].role"),
            (json!({"type": "resume"}), "stream_id"),
        ] {
            for read in both(&message) {
                let problem = read.unwrap_err();
                assert_eq!(problem.field.as_deref(), Some(field), "{message}: {problem}");
            }
        }
        for bytes in [
            &b""[..],
            b"[]",
            b"5",
            b"{",
            b"{\"type\": \"cancel\"} x",
            b"\xc1",
            b"\x91\x01",
            b"\xdf\xff\xff\xff\xff",
        ] {
            assert!(Format::Json.decode(bytes).is_err());
            assert!(Format::MessagePack.decode(bytes).is_err());
        }
        let deep = [[0x81, 0xa1, b'a'].repeat(100_000), vec![0xc0]].concat();
        assert!(Format::MessagePack.decode(&deep).is_err());
    }

    #[test]
    fn both_formats_have_the_same_fields() {
        let token = StreamToken {
            id: 8204,
            text: " quantum".to_owned(),
            position: 12,
            latency_ms: 38.5,
            ..StreamToken::default()
        };
        let message = ServerMessage { request_id: None, index: None, event: ServerEvent::Token { token } };
        let json: Value = serde_json::from_slice(&Format::Json.encode(&message)).unwrap();
        let expected = json!({"type": "token", "token":
            {"id": 8204, "text": " quantum", "position": 12, "latency_ms": 38.5}});
        assert_eq!(json, expected);
        let packed: Value = rmp_serde::from_slice(&Format::MessagePack.encode(&message)).unwrap();
        assert_eq!(packed, expected);
    }
}
