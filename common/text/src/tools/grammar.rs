//! Grammars for outputs that must call a tool, in the model's format.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::schema::{self, ArgumentKind};
use super::{Tool, ToolChoice, ToolFormat, ToolSet};
use crate::Constraint;

/// The constraint that enforces `choice`: none for `none` and `auto`, otherwise a grammar that allows only calls with arguments
/// that match each tool's schema. `parallel`: allows more than one call. `thinking`: the output begins inside reasoning, which is not
/// constrained.
#[must_use]
pub fn tool_constraint(
    format: ToolFormat,
    tools: &ToolSet,
    choice: &ToolChoice,
    parallel: bool,
    thinking: bool,
) -> Option<Constraint> {
    let allowed: Vec<&Tool> = match choice {
        ToolChoice::None | ToolChoice::Auto => return None,
        ToolChoice::Required => tools.tools().iter().collect(),
        ToolChoice::Named(name) => tools.get(name).into_iter().collect(),
    };
    if allowed.is_empty() {
        return None;
    }
    let mut grammar = Grammar { format, rules: String::new() };
    let thoughts = if thinking { "thoughts " } else { "" };
    let more = if parallel && matches!(choice, ToolChoice::Required) { r#" ("\n" call)*"# } else { "" };
    let _ = writeln!(grammar.rules, "start: {thoughts}call{more}");
    if thinking {
        grammar.rules.push_str("thoughts: thought /[ \\n]*/\nthought[lazy]: /(.|\\n)*/ \"</think>\"\n");
    }
    let calls: Vec<String> = (0..allowed.len()).map(|number| format!("call_{number}")).collect();
    let _ = writeln!(grammar.rules, "call: {}", calls.join(" | "));
    for (number, tool) in allowed.iter().enumerate() {
        grammar.call(number, tool);
    }
    Some(Constraint::Lark(grammar.rules))
}

struct Grammar {
    format: ToolFormat,
    rules: String,
}

impl Grammar {
    fn call(&mut self, number: usize, tool: &Tool) {
        let name = &tool.name;
        match self.format {
            ToolFormat::Hermes => {
                let open = text(&format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": "));
                let close = text("}\n</tool_call>");
                let _ = writeln!(self.rules, "call_{number}: {open} arguments_{number} {close}");
                let _ = writeln!(self.rules, "arguments_{number}: %json {}", object_schema(tool));
            }
            ToolFormat::QwenXml => {
                let open = text(&format!("<tool_call>\n<function={name}>\n"));
                let close = text("</function>\n</tool_call>");
                let arguments = self.arguments(number, tool);
                let _ = writeln!(self.rules, "call_{number}: {open}{arguments} {close}");
            }
            ToolFormat::Glm => {
                let open = text(&format!("<tool_call>{name}"));
                let arguments = self.arguments(number, tool);
                let _ = writeln!(self.rules, "call_{number}: {open} /\\n?/{arguments} \"</tool_call>\"");
            }
        }
    }

    /// Rules for arguments between tags, in the schema's order; arguments that are not required are optional.
    fn arguments(&mut self, number: usize, tool: &Tool) -> String {
        let Some(properties) = tool.parameters.get("properties").and_then(Value::as_object) else {
            return String::new();
        };
        let required = tool.parameters.get("required").and_then(Value::as_array);
        let mut sequence = String::new();
        for (index, key) in properties.keys().enumerate() {
            let rule = format!("argument_{number}_{index}");
            let optional =
                if required.is_some_and(|names| names.iter().any(|name| name == key)) { "" } else { "?" };
            let _ = write!(sequence, " {rule}{optional}");
            self.argument(&rule, key, tool);
        }
        sequence
    }

    fn argument(&mut self, rule: &str, key: &str, tool: &Tool) {
        let (open, close) = match self.format {
            ToolFormat::Glm => (format!("<arg_key>{key}</arg_key>"), "</arg_value>".to_owned()),
            _ => (format!("<parameter={key}>\n"), "\n</parameter>\n".to_owned()),
        };
        // GLM 4.5 writes line breaks between the tags, GLM 4.7 does not.
        let (middle, end) = match self.format {
            ToolFormat::Glm => (" /\\n?/ \"<arg_value>\"", " /\\n?/"),
            _ => ("", ""),
        };
        let _ = writeln!(self.rules, "{rule}: {}{middle} {rule}_value{end}", text(&open));
        let schema = schema::property(tool, key).unwrap_or(Value::Bool(true));
        let words = schema.get("enum").and_then(Value::as_array);
        match (schema::kind(Some(tool), key), words) {
            (ArgumentKind::Text, Some(words)) if !words.is_empty() => {
                let words: Vec<String> = words.iter().filter_map(Value::as_str).map(text).collect();
                let _ = writeln!(self.rules, "{rule}_value: ({}) {}", words.join(" | "), text(&close));
            }
            (ArgumentKind::Json, _) if schema.is_object() => {
                let _ = writeln!(self.rules, "{rule}_value: {rule}_json {}", text(&close));
                let _ = writeln!(self.rules, "{rule}_json: %json {schema}");
            }
            _ => {
                let _ = writeln!(self.rules, "{rule}_value[lazy]: /(.|\\n)*/ {}", text(&close));
            }
        }
    }
}

/// The schema of a tool's arguments, with the type `object` if it has none.
fn object_schema(tool: &Tool) -> Value {
    let mut schema = tool.parameters.clone();
    if let Value::Object(schema) = &mut schema {
        schema.entry("type").or_insert_with(|| json!("object"));
    }
    schema
}

/// A string literal of the grammar.
fn text(text: &str) -> String {
    Value::from(text).to_string()
}
