//! Grammars for outputs that must call a tool, in the model's format.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::schema::{self, ArgumentKind};
use super::{Tool, ToolChoice, ToolError, ToolFormat, ToolSet};
use crate::Constraint;
use crate::constraint::{ConstraintError, Enforcement, MAX_SOURCE_BYTES, guided_schema};

/// The constraint that enforces `choice`: none for `none` and `auto`, otherwise a grammar that allows only calls with arguments
/// that match each tool's schema. `parallel`: allows more than one call. `thinking`: the output begins inside reasoning, which is not
/// constrained. A part of a schema that cannot be enforced is left out, unless the tool is strict. Of schemas that are too large together
/// for a constraint only the names of the arguments are enforced; looking at each of their parts would take too long.
///
/// # Errors
/// [`ToolError`] with the schema that cannot be enforced.
pub fn tool_constraint(
    format: ToolFormat,
    tools: &ToolSet,
    choice: &ToolChoice,
    parallel: bool,
    thinking: bool,
) -> Result<Option<Constraint>, ToolError> {
    let is_allowed = |tool: &Tool| match choice {
        ToolChoice::None | ToolChoice::Auto => false,
        ToolChoice::Required => true,
        ToolChoice::Named(name) => tool.name == *name,
    };
    let written =
        tools.tools().iter().filter(|tool| is_allowed(tool)).map(|tool| tool.parameters.to_string().len());
    let without = if written.sum::<usize>() > MAX_SOURCE_BYTES { tools.without_schemas() } else { None };
    let tools = without.as_ref().unwrap_or(tools);
    let allowed: Vec<(usize, &Tool)> =
        tools.tools().iter().enumerate().filter(|(_, tool)| is_allowed(tool)).collect();
    if allowed.is_empty() {
        return Ok(None);
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
    for (number, (position, tool)) in allowed.into_iter().enumerate() {
        grammar.call(number, tool).map_err(|error| ToolError {
            field: format!("tools[{position}].function.parameters"),
            reason: error.to_string(),
        })?;
    }
    Ok(Some(Constraint::Lark(grammar.rules)))
}

struct Grammar {
    format: ToolFormat,
    rules: String,
}

impl Grammar {
    fn call(&mut self, number: usize, tool: &Tool) -> Result<(), ConstraintError> {
        let name = &tool.name;
        match self.format {
            ToolFormat::Hermes => {
                let open = text(&format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": "));
                let close = text("}\n</tool_call>");
                let _ = writeln!(self.rules, "call_{number}: {open} arguments_{number} {close}");
                let schema = guided_schema(&object_schema(tool), enforcement(tool))?;
                let _ = writeln!(self.rules, "arguments_{number}: %json {schema}");
            }
            ToolFormat::QwenXml => {
                let open = text(&format!("<tool_call>\n<function={name}>\n"));
                let close = text("</function>\n</tool_call>");
                let arguments = self.arguments(number, tool)?;
                let _ = writeln!(self.rules, "call_{number}: {open}{arguments} {close}");
            }
            ToolFormat::Glm => {
                let open = text(&format!("<tool_call>{name}"));
                let arguments = self.arguments(number, tool)?;
                let _ = writeln!(self.rules, "call_{number}: {open} /\\n?/{arguments} \"</tool_call>\"");
            }
        }
        Ok(())
    }

    /// Rules for arguments between tags, in the schema's order; arguments that are not required are optional.
    fn arguments(&mut self, number: usize, tool: &Tool) -> Result<String, ConstraintError> {
        let Some(properties) = tool.parameters.get("properties").and_then(Value::as_object) else {
            return Ok(String::new());
        };
        let required = tool.parameters.get("required").and_then(Value::as_array);
        let mut sequence = String::new();
        for (index, key) in properties.keys().enumerate() {
            let rule = format!("argument_{number}_{index}");
            let optional =
                if required.is_some_and(|names| names.iter().any(|name| name == key)) { "" } else { "?" };
            let _ = write!(sequence, " {rule}{optional}");
            self.argument(&rule, key, tool)?;
        }
        Ok(sequence)
    }

    fn argument(&mut self, rule: &str, key: &str, tool: &Tool) -> Result<(), ConstraintError> {
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
            (ArgumentKind::Text | ArgumentKind::TextOr(_), Some(words)) if !words.is_empty() => {
                let words: Vec<String> = words
                    .iter()
                    .map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned))
                    .map(|word| text(&word))
                    .collect();
                let _ = writeln!(self.rules, "{rule}_value: ({}) {}", words.join(" | "), text(&close));
            }
            (ArgumentKind::Json, _) if schema.is_object() => {
                let schema = guided_schema(&schema, enforcement(tool))?;
                let _ = writeln!(self.rules, "{rule}_value: {rule}_json {}", text(&close));
                let _ = writeln!(self.rules, "{rule}_json: %json {schema}");
            }
            _ => {
                let _ = writeln!(self.rules, "{rule}_value[lazy]: /(.|\\n)*/ {}", text(&close));
            }
        }
        Ok(())
    }
}

fn enforcement(tool: &Tool) -> Enforcement {
    if tool.strict { Enforcement::Strict } else { Enforcement::Loose }
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
