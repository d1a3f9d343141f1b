//! What an answer must look like: the many ways to ask for it, of which a request uses one at most.

use serde_json::{Map, Value};
use videosdgx_api::{
    Problem, StreamParams,
    openai::{ChatRequest, CompletionRequest, ResponseFormat, ResponseFormatKind, StructuredOutputs},
};
use videosdgx_text::Constraint;

use crate::limits::MAX_CHOICES;

/// A constraint, and the field that asked for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Structure {
    pub(crate) constraint: Constraint,
    pub(crate) field: String,
}

/// All that a request says of its answer's form.
#[derive(Debug, Default)]
pub(crate) struct Forms<'a> {
    place: &'static str,
    response_format: Option<&'a ResponseFormat>,
    guided_json: Option<&'a Value>,
    guided_regex: Option<&'a str>,
    guided_choice: Option<&'a [String]>,
    guided_grammar: Option<&'a str>,
    structured_outputs: Option<&'a StructuredOutputs>,
}

impl<'a> Forms<'a> {
    pub(crate) fn of_chat(request: &'a ChatRequest) -> Self {
        Self {
            place: "",
            response_format: request.response_format.as_ref(),
            guided_json: request.guided_json.as_ref(),
            guided_regex: request.guided_regex.as_deref(),
            guided_choice: request.guided_choice.as_deref(),
            guided_grammar: request.guided_grammar.as_deref(),
            structured_outputs: request.structured_outputs.as_ref(),
        }
    }

    pub(crate) fn of_completion(request: &'a CompletionRequest) -> Self {
        Self {
            guided_json: request.guided_json.as_ref(),
            guided_regex: request.guided_regex.as_deref(),
            guided_choice: request.guided_choice.as_deref(),
            guided_grammar: request.guided_grammar.as_deref(),
            structured_outputs: request.structured_outputs.as_ref(),
            ..Self::default()
        }
    }

    pub(crate) fn of_stream(params: &'a StreamParams) -> Self {
        Self {
            place: "params.",
            response_format: params.response_format.as_ref(),
            structured_outputs: params.structured_outputs.as_ref(),
            ..Self::default()
        }
    }

    /// The one that was asked for.
    pub(crate) fn check(&self) -> Result<Option<Structure>, Problem> {
        let mut found: Vec<(String, Constraint)> = Vec::new();
        let place = self.place;
        if let Some(format) = self.response_format {
            found.extend(response_format(format, place)?.map(|it| (format!("{place}response_format"), it)));
        }
        if let Some(schema) = self.guided_json {
            found.push((format!("{place}guided_json"), schema_of(schema, &format!("{place}guided_json"))?));
        }
        if let Some(regex) = self.guided_regex {
            found.push((format!("{place}guided_regex"), Constraint::Regex(regex.to_owned())));
        }
        if let Some(choices) = self.guided_choice {
            found.push((format!("{place}guided_choice"), one_of(choices, &format!("{place}guided_choice"))?));
        }
        if let Some(grammar) = self.guided_grammar {
            found.push((format!("{place}guided_grammar"), Constraint::Lark(grammar.to_owned())));
        }
        if let Some(outputs) = self.structured_outputs {
            let field = format!("{place}structured_outputs");
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
            (Some((field, constraint)), None) => Ok(Some(Structure { constraint, field })),
            (Some((first, _)), Some((second, _))) => {
                let detail = format!("{first} says already what the answer looks like; send one of them");
                Err(Problem::field(second, detail))
            }
        }
    }
}

fn response_format(format: &ResponseFormat, place: &str) -> Result<Option<Constraint>, Problem> {
    match format.kind {
        ResponseFormatKind::Text => Ok(None),
        ResponseFormatKind::JsonObject => Ok(Some(Constraint::JsonObject)),
        ResponseFormatKind::JsonSchema => {
            let field = format!("{place}response_format.json_schema");
            let named = format.json_schema.as_ref().ok_or_else(|| {
                Problem::field(&field, "response_format of the type json_schema has a json_schema")
            })?;
            let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if !(1..=64).contains(&named.name.len()) || !named.name.bytes().all(sound) {
                let detail = "the name is 1 to 64 letters, digits, underscores or hyphens";
                return Err(Problem::field(format!("{field}.name"), detail).with_limit(64));
            }
            Ok(Some(named.schema.as_ref().map_or(Constraint::JsonObject, |schema| {
                Constraint::JsonSchema(Value::Object(Map::clone(schema)))
            })))
        }
    }
}

/// A schema as an object, or as its text (vLLM takes both).
fn schema_of(schema: &Value, field: &str) -> Result<Constraint, Problem> {
    let read = match schema {
        Value::Object(_) | Value::Bool(_) => Some(schema.clone()),
        Value::String(text) => serde_json::from_str(text).ok().filter(Value::is_object),
        _ => None,
    };
    read.map(Constraint::JsonSchema).ok_or_else(|| Problem::field(field, "send a JSON schema, an object"))
}

fn one_of(choices: &[String], field: &str) -> Result<Constraint, Problem> {
    if !(1..=MAX_CHOICES).contains(&choices.len()) {
        let detail = format!("there are 1 to {MAX_CHOICES} choices");
        return Err(Problem::field(field, detail).with_limit(MAX_CHOICES));
    }
    if choices.iter().any(String::is_empty) {
        return Err(Problem::field(field, "a choice has one character at least"));
    }
    let texts: Vec<String> = choices.iter().map(|choice| Value::from(choice.as_str()).to_string()).collect();
    Ok(Constraint::Lark(format!("start: {}", texts.join(" | "))))
}

/// Either the answer, or what the grammar `calls` allows. A grammar of the caller's is left as it is.
pub(crate) fn or_calls(constraint: Constraint, calls: &Constraint) -> Constraint {
    let Constraint::Lark(calls) = calls else { return constraint };
    let Some(calls) = calls.strip_prefix("start: ") else { return constraint };
    match rule(&constraint) {
        Some(answer) => {
            Constraint::Lark(format!("start: answer | tool_calls\nanswer: {answer}\ntool_calls: {calls}"))
        }
        None => constraint,
    }
}

/// The constraint as the right side of a rule of Lark's; none for a whole grammar.
fn rule(constraint: &Constraint) -> Option<String> {
    match constraint {
        Constraint::JsonObject => Some("%json {\"type\": \"object\"}".to_owned()),
        Constraint::JsonSchema(schema) => Some(format!("%json {schema}")),
        Constraint::Regex(regex) => Some(format!("/{}/", regex.replace('/', "\\/"))),
        Constraint::Lark(_) => None,
    }
}

/// The same for an answer that begins inside of the model's thoughts, which stay free. A grammar of the caller's is left as it is.
pub(crate) fn after_thoughts(constraint: Constraint) -> Constraint {
    let thoughts = |rest: &str| {
        Constraint::Lark(format!(
            "start: thoughts {rest}\nthoughts: thought /[ \\n]*/\nthought[lazy]: /(.|\\n)*/ \"</think>\"\n"
        ))
    };
    if let Some(answer) = rule(&constraint) {
        return thoughts(&format!("answer\nanswer: {answer}"));
    }
    match constraint {
        // What `or_calls` made.
        Constraint::Lark(grammar) if grammar.starts_with("start: answer | tool_calls\n") => {
            thoughts(&grammar.replacen("start: answer | tool_calls", "(answer | tool_calls)", 1))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &str) -> Result<Option<Structure>, Problem> {
        let request: ChatRequest = serde_json::from_str(&format!(r#"{{"messages": [], {fields}}}"#)).unwrap();
        Forms::of_chat(&request).check()
    }

    #[test]
    fn each_way_of_asking_is_one_constraint() {
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
            let structure = check(fields).unwrap().unwrap();
            assert_eq!((structure.field.as_str(), structure.constraint), (field, expected));
        }
        assert_eq!(check(r#""response_format": {"type": "text"}"#).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_asked_for_is_named() {
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
