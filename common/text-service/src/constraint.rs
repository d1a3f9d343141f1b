//! Constraints on an answer's form. Requests have several fields for it, of which at most one may be set.

use serde_json::{Map, Value};
use videosdgx_api::{
    Problem, StreamParams,
    openai::{ChatRequest, CompletionRequest, ResponseFormat, ResponseFormatKind, StructuredOutputs},
};
use videosdgx_text::{Constraint, ConstraintError, rule_of};

use crate::limits::MAX_CHOICES;

/// A constraint, and the field that requested it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutputConstraint {
    pub(crate) constraint: Constraint,
    pub(crate) field: String,
    /// Used when `constraint` cannot be enforced: the same without the schemas of tools that are not strict.
    pub(crate) loosened: Option<Constraint>,
}

/// The fields of a request that constrain its answer's form, as they were sent.
#[derive(Debug, Default)]
pub(crate) struct OutputConstraintFields<'a> {
    /// Prepended to field names in problems: empty, or `params.`.
    field_prefix: &'static str,
    response_format: Option<&'a ResponseFormat>,
    guided: GuidedFields<'a>,
    structured_outputs: Option<&'a StructuredOutputs>,
}

/// The older fields of vLLM.
#[derive(Debug, Default)]
struct GuidedFields<'a> {
    json: Option<&'a Value>,
    regex: Option<&'a str>,
    choice: Option<&'a [String]>,
    grammar: Option<&'a str>,
}

/// Collects vLLM's older fields of a request.
macro_rules! guided_fields {
    ($request:expr) => {
        GuidedFields {
            json: $request.guided_json.as_ref(),
            regex: $request.guided_regex.as_deref(),
            choice: $request.guided_choice.as_deref(),
            grammar: $request.guided_grammar.as_deref(),
        }
    };
}

impl<'a> From<&'a ChatRequest> for OutputConstraintFields<'a> {
    fn from(request: &'a ChatRequest) -> Self {
        Self {
            field_prefix: "",
            response_format: request.response_format.as_ref(),
            guided: guided_fields!(request),
            structured_outputs: request.structured_outputs.as_ref(),
        }
    }
}

impl<'a> From<&'a CompletionRequest> for OutputConstraintFields<'a> {
    fn from(request: &'a CompletionRequest) -> Self {
        Self {
            field_prefix: "",
            response_format: None,
            guided: guided_fields!(request),
            structured_outputs: request.structured_outputs.as_ref(),
        }
    }
}

impl<'a> From<&'a StreamParams> for OutputConstraintFields<'a> {
    fn from(params: &'a StreamParams) -> Self {
        Self {
            field_prefix: "params.",
            response_format: params.response_format.as_ref(),
            guided: GuidedFields::default(),
            structured_outputs: params.structured_outputs.as_ref(),
        }
    }
}

impl OutputConstraintFields<'_> {
    /// The one constraint that was requested, if any.
    pub(crate) fn resolve(&self) -> Result<Option<OutputConstraint>, Problem> {
        let mut found: Vec<(String, Constraint)> = Vec::new();
        let prefix = self.field_prefix;
        if let Some(format) = self.response_format {
            found.extend(response_format(format, prefix)?.map(|it| (format!("{prefix}response_format"), it)));
        }
        if let Some(schema) = self.guided.json {
            found.push((format!("{prefix}guided_json"), schema_of(schema, &format!("{prefix}guided_json"))?));
        }
        if let Some(regex) = self.guided.regex {
            found.push((format!("{prefix}guided_regex"), Constraint::Regex(regex.to_owned())));
        }
        if let Some(choices) = self.guided.choice {
            found.push((
                format!("{prefix}guided_choice"),
                one_of(choices, &format!("{prefix}guided_choice"))?,
            ));
        }
        if let Some(grammar) = self.guided.grammar {
            found.push((format!("{prefix}guided_grammar"), Constraint::Lark(grammar.to_owned())));
        }
        if let Some(outputs) = self.structured_outputs {
            let field = format!("{prefix}structured_outputs");
            if outputs.structural_tag.is_some() {
                let detail = "structural tags are not supported: use json, regex, choice or grammar";
                return Err(Problem::field(format!("{field}.structural_tag"), detail));
            }
            if let Some(schema) = &outputs.json {
                let field = format!("{field}.json");
                found.push((field.clone(), schema_of(schema, &field)?));
            }
            if outputs.json_object == Some(true) {
                found.push((format!("{field}.json_object"), Constraint::JsonObject));
            }
            if let Some(regex) = &outputs.regex {
                found.push((format!("{field}.regex"), Constraint::Regex(regex.clone())));
            }
            if let Some(choices) = &outputs.choice {
                let field = format!("{field}.choice");
                found.push((field.clone(), one_of(choices, &field)?));
            }
            if let Some(grammar) = &outputs.grammar {
                found.push((format!("{field}.grammar"), Constraint::Lark(grammar.clone())));
            }
        }
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some((field, constraint)), None) => {
                Ok(Some(OutputConstraint { constraint, field, loosened: None }))
            }
            (Some((first, _)), Some((second, _))) => {
                let detail = format!("{first} already constrains the answer; send only one of them");
                Err(Problem::field(second, detail))
            }
        }
    }
}

fn response_format(format: &ResponseFormat, prefix: &str) -> Result<Option<Constraint>, Problem> {
    match format.kind {
        ResponseFormatKind::Text => Ok(None),
        ResponseFormatKind::JsonObject => Ok(Some(match &format.schema {
            None => Constraint::JsonObject,
            Some(schema) => Constraint::JsonSchema(object_schema(schema)),
        })),
        ResponseFormatKind::JsonSchema => {
            let field = format!("{prefix}response_format.json_schema");
            let named = format.json_schema.as_ref().ok_or_else(|| {
                Problem::field(&field, "a response_format of type json_schema needs a json_schema")
            })?;
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if !(1..=64).contains(&named.name.len()) || !named.name.bytes().all(allowed) {
                let detail = "the name must be 1 to 64 letters, digits, underscores or hyphens";
                return Err(Problem::field(format!("{field}.name"), detail).with_limit(64));
            }
            Ok(Some(named.schema.as_ref().map_or(Constraint::JsonObject, |schema| {
                Constraint::JsonSchema(Value::Object(Map::clone(schema)))
            })))
        }
    }
}

/// The schema of a `json_object`, which is an object in any case.
fn object_schema(schema: &Map<String, Value>) -> Value {
    let mut schema = schema.clone();
    schema.entry("type").or_insert_with(|| Value::from("object"));
    Value::Object(schema)
}

/// A schema as an object, or as JSON text (vLLM accepts both).
fn schema_of(schema: &Value, field: &str) -> Result<Constraint, Problem> {
    let read = match schema {
        Value::Object(_) | Value::Bool(_) => Some(schema.clone()),
        Value::String(text) => serde_json::from_str(text).ok().filter(Value::is_object),
        _ => None,
    };
    read.map(Constraint::JsonSchema).ok_or_else(|| Problem::field(field, "send a JSON schema as an object"))
}

fn one_of(choices: &[String], field: &str) -> Result<Constraint, Problem> {
    if !(1..=MAX_CHOICES).contains(&choices.len()) {
        let detail = format!("send 1 to {MAX_CHOICES} choices");
        return Err(Problem::field(field, detail).with_limit(MAX_CHOICES));
    }
    if choices.iter().any(String::is_empty) {
        return Err(Problem::field(field, "a choice has at least one character"));
    }
    let texts: Vec<String> = choices.iter().map(|choice| Value::from(choice.as_str()).to_string()).collect();
    Ok(Constraint::Lark(format!("start: {}", texts.join(" | "))))
}

/// Allows the constrained answer or the tool calls of the grammar `calls`. A grammar of the caller's stays unchanged.
pub(crate) fn or_tool_calls(
    constraint: Constraint,
    calls: &Constraint,
) -> Result<Constraint, ConstraintError> {
    let Constraint::Lark(calls) = calls else { return Ok(constraint) };
    let Some(calls) = calls.strip_prefix("start: ") else { return Ok(constraint) };
    Ok(match rule_of(&constraint)? {
        Some(answer) => {
            Constraint::Lark(format!("start: answer | tool_calls\nanswer: {answer}\ntool_calls: {calls}"))
        }
        None => constraint,
    })
}

/// Allows unconstrained reasoning (up to `</think>`) before the constrained answer. A grammar of the caller's stays unchanged.
pub(crate) fn after_reasoning(constraint: Constraint) -> Result<Constraint, ConstraintError> {
    let thoughts = |rest: &str| {
        Constraint::Lark(format!(
            "start: thoughts {rest}\nthoughts: thought /[ \\n]*/\nthought[lazy]: /(.|\\n)*/ \"</think>\"\n"
        ))
    };
    if let Some(answer) = rule_of(&constraint)? {
        return Ok(thoughts(&format!("answer\nanswer: {answer}")));
    }
    Ok(match constraint {
        // Made by `or_tool_calls`.
        Constraint::Lark(grammar) if grammar.starts_with("start: answer | tool_calls\n") => {
            thoughts(&grammar.replacen("start: answer | tool_calls", "(answer | tool_calls)", 1))
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &str) -> Result<Option<OutputConstraint>, Problem> {
        let request: ChatRequest = serde_json::from_str(&format!(r#"{{"messages": [], {fields}}}"#)).unwrap();
        OutputConstraintFields::from(&request).resolve()
    }

    #[test]
    fn each_field_gives_its_constraint() {
        for (fields, field, expected) in [
            (r#""response_format": {"type": "json_object"}"#, "response_format", Constraint::JsonObject),
            (
                r#""response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}"#,
                "response_format",
                Constraint::JsonSchema(serde_json::json!({"type": "object"})),
            ),
            (r#""guided_regex": "a+""#, "guided_regex", Constraint::Regex("a+".to_owned())),
            (
                r#""structured_outputs": {"choice": ["a\"b", "c"]}"#,
                "structured_outputs.choice",
                Constraint::Lark(r#"start: "a\"b" | "c""#.to_owned()),
            ),
            (
                r#""guided_json": "{\"type\": \"array\"}""#,
                "guided_json",
                Constraint::JsonSchema(serde_json::json!({"type": "array"})),
            ),
        ] {
            let found = check(fields).unwrap().unwrap();
            assert_eq!((found.field.as_str(), found.constraint), (field, expected));
        }
        assert_eq!(check(r#""response_format": {"type": "text"}"#).unwrap(), None);
    }

    #[test]
    fn invalid_fields_are_named() {
        for (fields, field) in [
            (r#""response_format": {"type": "json_schema"}"#, "response_format.json_schema"),
            (
                r#""response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}"#,
                "response_format.json_schema.name",
            ),
            (r#""guided_json": 5"#, "guided_json"),
            (r#""guided_choice": []"#, "guided_choice"),
            (r#""guided_choice": [""]"#, "guided_choice"),
            (r#""guided_regex": "a", "guided_grammar": "start: \"a\"""#, "guided_grammar"),
            (
                r#""response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}"#,
                "structured_outputs.regex",
            ),
        ] {
            assert_eq!(check(fields).unwrap_err().field.as_deref(), Some(field), "{fields}");
        }
    }
}
