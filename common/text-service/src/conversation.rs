//! Checks the messages of a request and converts them into the form that chat templates expect.

use serde_json::{Map, Value, json};
use videosdgx_api::{
    Problem,
    openai::{ChatMessage, Content, ContentPart, ImageUrl, PartKind, Role, Tool},
};

use crate::limits::MAX_PICTURES;

/// A picture of a conversation, not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PictureSource {
    /// `data:…` or `https:…` URL.
    pub(crate) url: String,
    /// Its field: `messages[0].content[1].image_url.url`.
    pub(crate) field: String,
}

/// Messages for the template, and their pictures in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Value>,
    pub(crate) pictures: Vec<PictureSource>,
}

impl Conversation {
    /// `pictures`: whether the model accepts pictures.
    pub(crate) fn check(messages: &[ChatMessage], pictures: bool) -> Result<Self, Problem> {
        if messages.is_empty() {
            return Err(Problem::field("messages", "send at least one message").with_limit(1));
        }
        let mut conversation = Self::default();
        for (number, message) in messages.iter().enumerate() {
            let value = conversation.message(message, &format!("messages[{number}]"), pictures)?;
            conversation.messages.push(value);
        }
        if conversation.pictures.len() > MAX_PICTURES {
            let detail = format!(
                "a conversation may have at most {MAX_PICTURES} pictures, this one has {}",
                conversation.pictures.len()
            );
            return Err(Problem::field("messages", detail).with_limit(MAX_PICTURES));
        }
        Ok(conversation)
    }

    fn message(&mut self, message: &ChatMessage, field: &str, pictures: bool) -> Result<Value, Problem> {
        if message.function_call.is_some() {
            let detail = "function_call is not supported: send tool_calls";
            return Err(Problem::field(format!("{field}.function_call"), detail));
        }
        let mut value = Map::new();
        // Most templates do not know OpenAI's newer role.
        let role = if message.role == Role::Developer { Role::System } else { message.role };
        value.insert("role".to_owned(), json!(role.as_str()));
        let calls = message.tool_calls.as_deref().filter(|calls| !calls.is_empty());
        let content = match (&message.content, message.role) {
            (Some(content), role) => self.content(content, role, &format!("{field}.content"), pictures)?,
            (None, Role::Assistant)
                if calls.is_some()
                    || message.refusal.is_some()
                    || message.reasoning_content.is_some()
                    || message.reasoning.is_some() =>
            {
                json!(message.refusal.as_deref().unwrap_or_default())
            }
            (None, _) => {
                return Err(Problem::field(format!("{field}.content"), "the message has no content"));
            }
        };
        value.insert("content".to_owned(), content);
        if let Some(name) = &message.name {
            value.insert("name".to_owned(), json!(name));
        }
        if message.role == Role::Assistant {
            if let Some(calls) = calls {
                let calls = serde_json::to_value(calls).unwrap_or_default();
                value.insert("tool_calls".to_owned(), calls);
            }
            if let Some(thoughts) = message.reasoning_content.as_ref().or(message.reasoning.as_ref()) {
                value.insert("reasoning_content".to_owned(), json!(thoughts));
            }
        }
        if message.role == Role::Tool {
            let id = message.tool_call_id.as_deref().ok_or_else(|| {
                Problem::field(
                    format!("{field}.tool_call_id"),
                    "a message of the role tool needs the id of the call that it answers",
                )
            })?;
            value.insert("tool_call_id".to_owned(), json!(id));
        }
        Ok(Value::Object(value))
    }

    fn content(
        &mut self,
        content: &Content,
        role: Role,
        field: &str,
        pictures: bool,
    ) -> Result<Value, Problem> {
        let parts = match content {
            Content::Text(text) => return Ok(json!(text)),
            Content::Parts(parts) => parts,
        };
        if parts.is_empty() {
            return Err(Problem::field(field, "a list of parts must not be empty"));
        }
        let mut values = Vec::with_capacity(parts.len());
        for (number, part) in parts.iter().enumerate() {
            values.push(self.part(part, role, &format!("{field}[{number}]"), pictures)?);
        }
        Ok(Value::Array(values))
    }

    fn part(
        &mut self,
        part: &ContentPart,
        role: Role,
        field: &str,
        pictures: bool,
    ) -> Result<Value, Problem> {
        let missing = |name: &str| {
            Problem::field(format!("{field}.{name}"), format!("a part of this type needs {name}"))
        };
        match part.kind {
            PartKind::Text => {
                let text = part.text.as_deref().ok_or_else(|| missing("text"))?;
                Ok(json!({ "type": "text", "text": text }))
            }
            PartKind::Refusal if role == Role::Assistant => {
                let text = part.refusal.as_deref().ok_or_else(|| missing("refusal"))?;
                Ok(json!({ "type": "text", "text": text }))
            }
            PartKind::ImageUrl if !pictures => {
                let detail = "this model accepts text only: send no pictures, or use a model with vision";
                Err(Problem::field(format!("{field}.image_url"), detail))
            }
            PartKind::ImageUrl if matches!(role, Role::User | Role::Tool) => {
                let ImageUrl { url, .. } = part.image_url.as_ref().ok_or_else(|| missing("image_url"))?;
                self.pictures
                    .push(PictureSource { url: url.clone(), field: format!("{field}.image_url.url") });
                Ok(json!({ "type": "image" }))
            }
            PartKind::ImageUrl => Err(Problem::field(
                format!("{field}.type"),
                "only messages of the roles user and tool can have pictures",
            )),
            PartKind::Refusal => Err(Problem::field(
                format!("{field}.type"),
                "only messages of the role assistant can have refusals",
            )),
            PartKind::InputAudio | PartKind::VideoUrl | PartKind::File => {
                let detail = "this model accepts only text and pictures";
                Err(Problem::field(format!("{field}.type"), detail))
            }
        }
    }
}

/// The tools as JSON values, for the template.
pub(crate) fn tool_values(tools: &[Tool]) -> Vec<Value> {
    tools.iter().map(|tool| serde_json::to_value(tool).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &Value, pictures: bool) -> Result<Conversation, Problem> {
        let messages: Vec<ChatMessage> = serde_json::from_value(messages.clone()).unwrap();
        Conversation::check(&messages, pictures)
    }

    #[test]
    fn messages_are_converted_for_templates() {
        let conversation = check(
            &json!([
                {"role": "developer", "content": "rules"},
                {"role": "user", "name": "ann", "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "5"},
                {"role": "assistant", "refusal": "no"},
            ]),
            true,
        )
        .unwrap();
        assert_eq!(
            conversation.messages,
            [
                json!({"role": "system", "content": "rules"}),
                json!({"role": "user", "name": "ann", "content": [
                    {"type": "text", "text": "what is this?"}, {"type": "image"}]}),
                json!({"role": "assistant", "content": "", "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
                json!({"role": "tool", "tool_call_id": "c", "content": "5"}),
                json!({"role": "assistant", "content": "no"}),
            ]
        );
        let picture = &conversation.pictures[0];
        assert_eq!(
            (picture.url.as_str(), picture.field.as_str()),
            ("data:image/png;base64,AA", "messages[1].content[1].image_url.url")
        );
    }

    #[test]
    fn the_field_of_an_invalid_message_is_named() {
        let image = json!([{"type": "image_url", "image_url": {"url": "data:"}}]);
        for (messages, pictures, field) in [
            (json!([]), true, "messages"),
            (json!([{"role": "user"}]), true, "messages[0].content"),
            (json!([{"role": "user", "content": []}]), true, "messages[0].content"),
            (json!([{"role": "user", "content": [{"type": "text"}]}]), true, "messages[0].content[0].text"),
            (json!([{"role": "user", "content": image}]), false, "messages[0].content[0].image_url"),
            (json!([{"role": "system", "content": image}]), true, "messages[0].content[0].type"),
            (
                json!([{"role": "user", "content": [{"type": "image_url"}]}]),
                true,
                "messages[0].content[0].image_url",
            ),
            (
                json!([{"role": "user", "content": [{"type": "input_audio"}]}]),
                true,
                "messages[0].content[0].type",
            ),
            (json!([{"role": "tool", "content": "5"}]), true, "messages[0].tool_call_id"),
            (json!([{"role": "assistant"}]), true, "messages[0].content"),
        ] {
            let problem = check(&messages, pictures).unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)), "{messages}");
        }
        let many: Vec<Value> =
            (0..17).map(|_| json!({"type": "image_url", "image_url": {"url": "data:"}})).collect();
        let problem = check(&json!([{"role": "user", "content": many}]), true).unwrap_err();
        assert_eq!(problem.limit, Some(json!(16)));
    }
}
