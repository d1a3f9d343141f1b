//! Schemas: bounded white space, exact numbers, and loosening for tools.

use rstest::rstest;
use serde_json::{Value, json};
use videosdgx_text::{
    AllowSpecial, Constraint, ConstraintCompiler, ConstraintError, Tokenizer, ToolChoice, ToolFormat,
    ToolSet, regex_rule, rule_of, tool_constraint,
};

fn compiler() -> (Tokenizer, ConstraintCompiler) {
    let tokenizer = crate::support::qwen();
    let end = tokenizer.token_id("<|im_end|>").expect("there");
    let compiler = ConstraintCompiler::new(&tokenizer, &[end]).expect("compiles");
    (tokenizer, compiler)
}

/// Whether the constraint allows `text` as a whole output.
fn allows(constraint: &Constraint, text: &str) -> bool {
    let (tokenizer, compiler) = compiler();
    let mut matcher = compiler.compile(constraint).unwrap_or_else(|error| panic!("{error}: {constraint:?}"));
    let ids = tokenizer.encode(text, AllowSpecial::All).expect("encodes");
    ids.into_iter().all(|id| matcher.accept(id).is_ok()) && (matcher.is_finished() || matcher.may_finish())
}

#[test]
fn white_space_between_tokens_is_bounded() {
    let list =
        json!({"type": "array", "items": {"type": "string", "maxLength": 40}, "minItems": 2, "maxItems": 2});
    let rule = rule_of(&Constraint::JsonSchema(list.clone())).expect("valid").expect("a rule");
    for constraint in [
        Constraint::JsonSchema(list),
        Constraint::JsonObject,
        Constraint::Lark(format!("start: answer | \"none\"\nanswer: {rule}")),
    ] {
        let (text, inner) = match constraint {
            Constraint::JsonObject => ("{\"a\": \"b\"}", "{BLANK\"a\":BLANK\"b\"}"),
            _ => ("[\"a\", \"b\"]", "[BLANK\"a\",BLANK\"b\"]"),
        };
        assert!(allows(&constraint, text), "{constraint:?}");
        for blank in ["", " ", "  ", "\n", "\n    ", "\r\n\t\t", "\n                        "] {
            let text = inner.replace("BLANK", blank);
            assert!(allows(&constraint, &text), "{constraint:?} {text:?}");
        }
        for blank in
            [" ".repeat(20), "\n\n".to_owned(), " \n \n".to_owned(), format!("\n{}", " ".repeat(200))]
        {
            let text = inner.replace("BLANK", &blank);
            assert!(!allows(&constraint, &text), "{constraint:?} {text:?}");
            let after = format!("{text}{blank}");
            assert!(!allows(&constraint, &after), "{constraint:?} {after:?}");
        }
    }
}

#[rstest]
#[case(json!({"const": 9_007_199_254_740_993_i64}))]
#[case(json!({"enum": [1, 1_234_567_890_123_456_789_i64]}))]
#[case(json!({"type": "integer", "minimum": 1_234_567_890_123_456_789_i64, "maximum": 1_234_567_890_123_456_789_i64}))]
#[case(json!({"type": "integer", "minimum": 1e30, "maximum": 1e30}))]
#[case(json!({"type": "integer", "maximum": -1e30}))]
#[case(json!({"const": 1e30}))]
#[case(json!({"properties": {"a": {"items": {"const": {"b": [u64::MAX]}}}}}))]
fn a_whole_number_that_cannot_be_exact_is_refused(#[case] schema: Value) {
    let (_, compiler) = compiler();
    match compiler.compile(&Constraint::JsonSchema(schema.clone())) {
        Err(ConstraintError::Invalid(reason)) => assert!(reason.contains("exactly"), "{schema}: {reason}"),
        other => panic!("{schema}: {other:?}"),
    }
}

#[rstest]
#[case(json!({"const": 9_007_199_254_740_992_i64}), &["9007199254740992"], &["9007199254740993"])]
#[case(json!({"const": -1_152_921_504_606_846_976_i64}), &["-1152921504606846976"], &["-1152921504606846975"])]
#[case(json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX}), &["5", "-5"], &["a"])]
#[case(json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}), &["5"], &["-1"])]
#[case(json!({"type": "integer", "minimum": 1, "maximum": 3}), &["2"], &["4"])]
#[case(json!({"enum": [0.5, 2]}), &["0.5", "2"], &["3"])]
fn other_numbers_are_exact(#[case] schema: Value, #[case] good: &[&str], #[case] bad: &[&str]) {
    let constraint = Constraint::JsonSchema(schema);
    good.iter().for_each(|text| assert!(allows(&constraint, text), "{constraint:?} {text}"));
    bad.iter().for_each(|text| assert!(!allows(&constraint, text), "{constraint:?} {text}"));
}

#[rstest]
#[case(r"a/b", "a/b")]
#[case(r"a\/b", "a/b")]
#[case(r"https?:\/\/[a-z]+/x", "https://ab/x")]
#[case(r"\\/", r"\/")]
#[case("", "")]
fn slashes_of_a_regex_may_be_escaped(#[case] regex: &str, #[case] text: &str) {
    assert!(allows(&Constraint::Regex(regex.to_owned()), text), "{regex}");
    let rule = Constraint::Lark(format!("start: \"<\" answer \">\"\nanswer: {}", regex_rule(regex)));
    assert!(allows(&rule, &format!("<{text}>")), "{regex}");
}

fn tools(parameters: &Value, strict: bool) -> ToolSet {
    ToolSet::parse(&[
        json!({"type": "function", "function": {"name": "f", "parameters": parameters, "strict": strict}}),
        json!({"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}}),
    ])
    .expect("valid")
}

/// What can be enforced still is: `m` must be there.
#[rstest]
#[case(json!({"properties": {"m": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "string"}}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object", "required": null, "properties": null}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object", "not": {"required": ["a"]}}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object", "if": {}, "then": {}}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object", "dependentRequired": {"a": ["b"]}}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object", "patternProperties": {"(?=a)": {}}, "additionalProperties": false}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object"}, "n": {"type": "array", "contains": {"const": 1}, "uniqueItems": true}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object"}, "n": {"type": "string", "format": "colour"}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object"}, "n": {"type": "string", "pattern": "^(?!x)[a-z]+$"}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object"}, "n": {"$ref": "https://example.com/a"}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object"}, "n": {"const": 9_007_199_254_740_993_i64}}, "required": ["m"]}), true)]
#[case(json!({"properties": {"m": {"type": "object"}, "n": {"oneOf": [{"minimum": 1}, {"maximum": 5}]}}, "required": ["m", null]}), true)]
#[case(json!({"properties": {"m": {"type": "object"}}, "required": null}), false)]
#[case(json!({"properties": null}), false)]
fn a_tools_schema_is_loosened(#[case] parameters: Value, #[case] required: bool) {
    let mut parameters = parameters;
    parameters["type"] = json!("object");
    let tools = tools(&parameters, false);
    let call = |arguments: &str| {
        format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {arguments}}}\n</tool_call>")
    };
    let constraint = tool_constraint(ToolFormat::Hermes, &tools, &ToolChoice::Required, true, false)
        .expect("loosened")
        .expect("a constraint");
    assert!(allows(&constraint, &call("{\"m\": {\"a\": \"b\"}}")), "{parameters}");
    assert_eq!(allows(&constraint, &call("{}")), !required, "{parameters}");
    let other = "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
    assert!(allows(&constraint, other), "{parameters}");
}

/// A strict tool's schema is enforced whole or refused, with its field.
#[test]
fn a_strict_tools_schema_is_not_loosened() {
    let (_, compiler) = compiler();
    let exact = json!({"type": "object", "properties": {"n": {"const": 9_007_199_254_740_993_i64}}});
    let error = tool_constraint(ToolFormat::Hermes, &tools(&exact, true), &ToolChoice::Required, true, false)
        .expect_err("refused");
    assert_eq!(error.field, "tools[0].function.parameters");
    let names = json!({"type": "object", "propertyNames": {"minLength": 2}});
    let strict = tools(&names, true);
    let constraint = tool_constraint(ToolFormat::Hermes, &strict, &ToolChoice::Required, true, false)
        .expect("not looked at yet")
        .expect("a constraint");
    assert!(matches!(compiler.compile(&constraint), Err(ConstraintError::Invalid(_))));
    assert!(strict.without_schemas().is_some(), "the other tool is not strict");
    assert_eq!(strict.without_schemas().expect("some").get("f"), strict.get("f"));
}

/// Schemas that no constraint can hold are not examined part by part.
#[test]
fn of_tools_with_very_large_schemas_only_the_names_are_enforced() {
    let property =
        |number: usize| (format!("p{number}"), json!({"type": "string", "pattern": "[a-z]{3}.*x"}));
    let parameters = |count: usize| {
        let properties: serde_json::Map<_, _> = (0..count).map(property).collect();
        json!({"type": "object", "properties": properties})
    };
    let constraint = |tools: &ToolSet| {
        tool_constraint(ToolFormat::Hermes, tools, &ToolChoice::Required, true, false).expect("enforceable")
    };
    for (count, is_too_large) in [(10, false), (6_000, true)] {
        let whole = tools(&parameters(count), false);
        let names = whole.without_schemas().expect("not strict");
        assert_eq!(constraint(&whole) == constraint(&names), is_too_large, "{count}");
    }
}

/// The last resort: any arguments.
#[test]
fn tools_without_schemas_take_any_arguments() {
    let contradictory = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 5, "maximum": 1}},
        "required": ["n"]});
    let tools = tools(&contradictory, false).without_schemas().expect("not strict");
    for (format, call) in [
        (ToolFormat::Hermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 3}}\n</tool_call>"),
        (
            ToolFormat::QwenXml,
            "<tool_call>\n<function=f>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>",
        ),
        (ToolFormat::Glm, "<tool_call>f<arg_key>n</arg_key><arg_value>3</arg_value></tool_call>"),
    ] {
        let constraint = tool_constraint(format, &tools, &ToolChoice::Required, true, false)
            .expect("enforceable")
            .expect("a constraint");
        assert!(allows(&constraint, call), "{format:?}");
    }
}
