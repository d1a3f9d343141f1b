//! The parsed reasoning, content and calls do not depend on how the output is split.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use videosdgx_text::{OutputDelta, OutputFormat, OutputParser, ToolChoice, ToolFormat, ToolSet};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Answer {
    content: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    ids: Vec<String>,
}

fn tools() -> ToolSet {
    ToolSet::parse(&[
        json!({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "units": {"type": ["string", "null"]},
            "options": {"type": "object"}, "kind": {"enum": ["a", "b"]}, "exact": {"type": "boolean"},
            "place": {"$ref": "#/$defs/place"}, "either": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
            "required": ["city"], "$defs": {"place": {"type": "string"}}}}}),
        json!({"type": "function", "function": {"name": "now"}}),
    ])
    .expect("valid")
}

fn add(answer: &mut Answer, delta: OutputDelta) {
    answer.content.push_str(&delta.content);
    answer.reasoning.push_str(&delta.reasoning);
    for call in delta.tool_calls {
        if let Some(name) = call.name {
            assert_eq!(call.index, answer.calls.len(), "calls come in order");
            let id = call.id.expect("the first delta has the id");
            assert!(id.len() == 29 && answer.ids.iter().all(|known| *known != id), "{id}");
            answer.ids.push(id);
            answer.calls.push((name, String::new()));
        } else {
            assert_eq!(call.id, None);
            assert_eq!(call.index + 1, answer.calls.len());
        }
        answer.calls[call.index].1.push_str(&call.arguments_delta);
    }
}

fn parser(format: ToolFormat, thinking: bool) -> OutputParser {
    OutputParser::new(OutputFormat { tools: Some(format), reasoning: true }, tools(), thinking, "x")
}

fn parse<'a>(mut parser: OutputParser, pieces: impl IntoIterator<Item = &'a str>) -> Answer {
    let mut answer = Answer::default();
    pieces.into_iter().for_each(|piece| add(&mut answer, parser.push(piece)));
    add(&mut answer, parser.finish());
    assert_eq!(parser.has_tool_calls(), !answer.calls.is_empty());
    answer
}

/// Parses the text at once, split at each position, and character by character; the results must be equal.
fn everywhere(format: ToolFormat, thinking: bool, text: &str) -> Answer {
    let whole = parse(parser(format, thinking), [text]);
    for (place, _) in text.char_indices() {
        assert_eq!(
            parse(parser(format, thinking), [&text[..place], &text[place..]]),
            whole,
            "cut at {place}"
        );
    }
    let characters = text.char_indices().map(|(place, character)| &text[place..place + character.len_utf8()]);
    assert_eq!(parse(parser(format, thinking), characters), whole);
    whole
}

fn calls(answer: &Answer) -> Vec<(&str, Value)> {
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    answer.calls.iter().map(|(name, arguments)| (name.as_str(), value(arguments))).collect()
}

#[test]
fn hermes_calls() {
    let text = "<think>\nWhat now?\n\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": \
                {\"city\": \"Paris \\\"é\\\" </tool_call> {\", \"days\": 2, \"options\": {\"a\": [1, 2.5e3, null, true], \"b\": {}}}}\n</tool_call>\n\
                <tool_call>\n{\"arguments\": {}, \"name\": \"now\"}\n</tool_call>";
    let answer = everywhere(ToolFormat::Hermes, false, text);
    assert_eq!((answer.content.as_str(), answer.reasoning.as_str()), ("Let me see.", "What now?"));
    let weather = json!({"city": "Paris \"é\" </tool_call> {", "days": 2, "options": {"a": [1, 2500.0, null, true], "b": {}}});
    assert_eq!(calls(&answer), [("get_weather", weather), ("now", json!({}))]);
}

#[rstest]
#[case::no_arguments("<tool_call>{\"name\": \"now\"}</tool_call>", json!({}))]
#[case::parameters("<tool_call>{\"name\": \"now\", \"parameters\": {\"a\": 1}}</tool_call>", json!({"a": 1}))]
#[case::quoted("<tool_call>{\"name\": \"now\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>", json!({"a": 1}))]
#[case::line_break("<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": \"x\ny\tz\"}}</tool_call>", json!({"a": "x\ny\tz"}))]
#[case::more_members("<tool_call>{\"id\": [1], \"name\": \"now\", \"x\": {\"name\": \"y\"}, \"arguments\": {\"a\": 1} } </tool_call>", json!({"a": 1}))]
fn hermes_in_other_spellings(#[case] text: &str, #[case] arguments: Value) {
    let answer = everywhere(ToolFormat::Hermes, false, text);
    assert_eq!(calls(&answer), [("now", arguments)]);
    assert_eq!(answer.content, "");
}

#[test]
fn xml_calls() {
    let text = "I write it.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n\n  \"x\" <b>\\n</b>\n</parameter>\n<parameter=days>\n3\n</parameter>\n\
                <parameter=options>\n{\"a\": [1]}\n</parameter>\n<parameter=units>\nnull\n</parameter>\n<parameter=kind>\na\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n\
                <parameter=place>\n7\n</parameter>\n<parameter=either>\n2.5\n</parameter>\n<parameter=unknown>\n5\n</parameter>\n</function>\n</tool_call>\n\
                <tool_call>\n<function=now>\n</function>\n</tool_call>\n";
    let answer = everywhere(ToolFormat::QwenXml, false, text);
    assert_eq!(answer.content, "I write it.");
    let weather = json!({"city": "Paris\n\n  \"x\" <b>\\n</b>", "days": 3, "options": {"a": [1]}, "units": null, "kind": "a",
        "exact": true, "place": "7", "either": 2.5, "unknown": "5"});
    assert_eq!(calls(&answer), [("get_weather", weather), ("now", json!({}))]);
    let forgotten = "<function=now>\n<parameter=a>\n</parameter>\n</function>\n</tool_call>";
    let answer = everywhere(ToolFormat::QwenXml, false, forgotten);
    assert_eq!((answer.content.as_str(), calls(&answer)), ("", vec![("now", json!({"a": ""}))]));
}

#[test]
fn glm_calls() {
    let text = "thinking…</think>Sure.<tool_call>get_weather<arg_key>city</arg_key><arg_value> 12\n</arg_value><arg_key>days</arg_key><arg_value>3</arg_value>\
                <arg_key>unknown</arg_key><arg_value>[1, 2]</arg_value></tool_call><tool_call>now\n</tool_call>\
                <tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n</tool_call>";
    let answer = everywhere(ToolFormat::Glm, true, text);
    assert_eq!((answer.content.as_str(), answer.reasoning.as_str()), ("Sure.", "thinking…"));
    let first = json!({"city": " 12\n", "days": 3, "unknown": [1, 2]});
    assert_eq!(
        calls(&answer),
        [("get_weather", first), ("now", json!({})), ("get_weather", json!({"city": "Rome"}))]
    );
}

#[rstest]
#[case::text("just text\n", ToolFormat::Hermes)]
#[case::look_alike("a < b <tool> <tool_cal", ToolFormat::Hermes)]
#[case::no_json("x <tool_call>nothing</tool_call> y", ToolFormat::Hermes)]
#[case::no_name("<tool_call>{\"arguments\": {}}</tool_call>", ToolFormat::Hermes)]
#[case::cut_before_the_name("<tool_call>\n{\"na", ToolFormat::Hermes)]
#[case::no_function("<tool_call>\nhello</tool_call>", ToolFormat::QwenXml)]
#[case::bad_name("<function=a b>x", ToolFormat::QwenXml)]
#[case::json_in_glm("<tool_call>{\"name\": \"f\"}</tool_call>", ToolFormat::Glm)]
#[case::stray_end("no </tool_call> here", ToolFormat::QwenXml)]
fn what_is_no_call_is_content(#[case] text: &str, #[case] format: ToolFormat) {
    assert_eq!(everywhere(format, false, text), Answer { content: text.to_owned(), ..Answer::default() });
}

/// Calls that are incomplete at the token limit: those between tags are closed, those in JSON remain incomplete.
#[test]
fn calls_that_are_cut_off() {
    let text = "<tool_call>\n<function=get_weather>\n<parameter=city>\nPar</para";
    assert_eq!(
        calls(&everywhere(ToolFormat::QwenXml, false, text)),
        [("get_weather", json!({"city": "Par</para"}))]
    );
    let text = "<tool_call>get_weather<arg_key>days</arg_key><arg_value>1";
    assert_eq!(calls(&everywhere(ToolFormat::Glm, false, text)), [("get_weather", json!({"days": 1}))]);
    let text = "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": \"b";
    let answer = everywhere(ToolFormat::Hermes, false, text);
    assert_eq!(answer.calls, [("now".to_owned(), "{\"a\": \"b".to_owned())]);
}

/// Arguments are streamed, not sent at the end of the call.
#[test]
fn arguments_stream() {
    for (format, text) in [
        (ToolFormat::Hermes, "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": \"one two"),
        (ToolFormat::QwenXml, "<tool_call><function=now><parameter=a>one two three"),
        (ToolFormat::Glm, "<tool_call>get_weather<arg_key>city</arg_key><arg_value>one two"),
    ] {
        let mut parser = parser(format, false);
        let mut answer = Answer::default();
        add(&mut answer, parser.push(text));
        assert!(answer.calls[0].1.contains("one two"), "{format:?}: {answer:?}");
    }
}

#[rstest]
#[case::none("answer", false, "", "answer")]
#[case::tags("<think>a\n b</think>answer", false, "a\n b", "answer")]
#[case::opened("a</think>\n\nanswer\n", true, "a", "answer\n")]
#[case::opened_twice("<think>\na</think>answer", true, "a", "answer")]
#[case::empty("<think>\n\n</think>\n\nanswer", false, "", "answer")]
#[case::never_closed("<think>a b", false, "a b", "")]
#[case::later("x <think>a</think>", false, "", "x <think>a</think>")]
#[case::half("<thi", false, "", "<thi")]
#[case::half_close("a</thi", true, "a</thi", "")]
fn thoughts(#[case] text: &str, #[case] thinking: bool, #[case] reasoning: &str, #[case] content: &str) {
    let whole = everywhere(ToolFormat::Hermes, thinking, text);
    assert_eq!((whole.reasoning.as_str(), whole.content.as_str()), (reasoning, content));
    assert!(OutputParser::prompt_opens_reasoning("…<|assistant|><think>\n"));
    assert!(!OutputParser::prompt_opens_reasoning("<think>\n\n</think>\n\n"));
}

#[test]
fn without_tools_calls_are_content() {
    let text = "a <tool_call>{\"name\": \"now\"}</tool_call> \n";
    let format = OutputFormat { tools: Some(ToolFormat::Hermes), reasoning: false };
    let mut parser = OutputParser::new(format, ToolSet::default(), false, "x");
    let mut delta = parser.push(text);
    delta.content.push_str(&parser.finish().content);
    assert_eq!((delta.content.as_str(), delta.tool_calls.len()), (text, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any text and split: no panic, nothing is lost except tags and the white space around them, and the result is the same.
    #[test]
    fn cuts_do_not_matter(
        parts in prop::collection::vec(prop::sample::select(vec![
            "<tool_call>", "</tool_call>", "<function=", "now", ">", "</function>", "<parameter=", "a", "</parameter>", "\n", " ", "{", "}", "\"",
            "\"name\"", ":", "\"now\"", ",", "\"arguments\"", "[", "]", "1", "\\", "\\u00", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
            "<think>", "</think>", "é", "😀", "<", "null", "x",
        ]), 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        format in prop::sample::select(vec![ToolFormat::Hermes, ToolFormat::QwenXml, ToolFormat::Glm]),
        thinking in any::<bool>(),
    ) {
        let text = parts.concat();
        let whole = parse(parser(format, thinking), [text.as_str()]);
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| places[cut.index(places.len())]).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
        prop_assert_eq!(&parse(parser(format, thinking), pieces), &whole);
        if format != ToolFormat::Hermes {
            for (name, arguments) in &whole.calls {
                prop_assert!(serde_json::from_str::<Value>(arguments).is_ok_and(|value| value.is_object()), "{}: {}", name, arguments);
            }
        }
        if whole.calls.is_empty() && !thinking && !text.contains("think>") {
            prop_assert_eq!(whole.content, text);
        }
    }
}

#[rstest]
#[case(json!([{"type": "other"}]), "tools[0].type")]
#[case(json!([{"type": "function"}]), "tools[0].function")]
#[case(json!([{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name")]
#[case(json!([{"type": "function", "function": {"name": "a".repeat(65)}}]), "tools[0].function.name")]
#[case(json!([{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "a"}}]), "tools[1].function.name")]
#[case(json!([{"type": "function", "function": {"name": "a", "parameters": []}}]), "tools[0].function.parameters")]
#[case(json!([{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]), "tools[0].function.parameters.type")]
#[case(json!([{"type": "function", "function": {"name": "a", "description": 1}}]), "tools[0].function.description")]
fn wrong_tools_are_named(#[case] tools: Value, #[case] field: &str) {
    let wrong = ToolSet::parse(tools.as_array().expect("a list")).expect_err("wrong");
    assert_eq!(wrong.field, field);
}

#[test]
fn choices() {
    let (some, none) = (tools(), ToolSet::default());
    let parse =
        |choice: Value, tools: &ToolSet| ToolChoice::parse(Some(&choice), tools).map_err(|error| error.field);
    assert_eq!(ToolChoice::parse(None, &some), Ok(ToolChoice::Auto));
    assert_eq!(ToolChoice::parse(None, &none), Ok(ToolChoice::None));
    assert_eq!(parse(json!("none"), &some), Ok(ToolChoice::None));
    assert_eq!(parse(json!("required"), &some), Ok(ToolChoice::Required));
    assert_eq!(parse(json!("required"), &none), Err("tool_choice".to_owned()));
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    assert_eq!(parse(named("now"), &some), Ok(ToolChoice::Named("now".to_owned())));
    assert_eq!(parse(named("then"), &some), Err("tool_choice.function.name".to_owned()));
    assert_eq!(parse(json!(5), &some), Err("tool_choice".to_owned()));
    assert_eq!(parse(json!("always"), &some), Err("tool_choice".to_owned()));
}

#[test]
fn formats_are_recognised_by_their_templates() {
    let read = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fixtures/language/templates")
            .join(name);
        OutputFormat::of_template(&std::fs::read_to_string(path).expect("the fixture is committed"))
    };
    assert_eq!(read("qwen3.jinja"), OutputFormat { tools: Some(ToolFormat::Hermes), reasoning: true });
    assert_eq!(
        read("qwen3_coder.jinja"),
        OutputFormat { tools: Some(ToolFormat::QwenXml), reasoning: false }
    );
    assert_eq!(read("glm4.jinja"), OutputFormat { tools: Some(ToolFormat::Glm), reasoning: true });
    assert_eq!(read("smollm2.jinja"), OutputFormat::default());
}

/// The schemas of an argument that may be text or null, in the spellings that people use.
fn nullable_texts() -> Vec<Value> {
    vec![
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        json!({"oneOf": [{"type": "null"}, {"type": "string", "minLength": 1}]}),
        json!({"type": ["string", "null"]}),
        json!({"type": "string", "nullable": true}),
        json!({"$ref": "#/$defs/zip"}),
        json!({"anyOf": [{"$ref": "#/$defs/text"}, {"const": null}]}),
        json!({"allOf": [{"type": ["string", "null"]}, {"description": "a zip code"}]}),
        json!({"allOf": [{"$ref": "#/$defs/zip"}]}),
    ]
}

fn argument(schema: &Value, format: ToolFormat, text: &str) -> Value {
    let tools = ToolSet::parse(&[json!({"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"zip": schema}, "$defs": {"text": {"type": "string"},
            "zip": {"anyOf": [{"$ref": "#/$defs/text"}, {"type": "null"}]}}}}})])
    .expect("valid");
    let call = match format {
        ToolFormat::QwenXml => format!(
            "<tool_call>\n<function=f>\n<parameter=zip>\n{text}\n</parameter>\n</function>\n</tool_call>"
        ),
        _ => format!("<tool_call>f<arg_key>zip</arg_key><arg_value>{text}</arg_value></tool_call>"),
    };
    let format = OutputFormat { tools: Some(format), reasoning: false };
    let answer = parse(OutputParser::new(format, tools, false, "x"), [call.as_str()]);
    let (_, arguments) = calls(&answer).into_iter().next().expect("a call");
    arguments["zip"].clone()
}

#[rstest]
#[case("10115", json!("10115"))]
#[case("1.10", json!("1.10"))]
#[case("true", json!("true"))]
#[case("{\"a\":1}", json!("{\"a\":1}"))]
#[case("null", json!(null))]
#[case("abc", json!("abc"))]
#[case("\"quoted\"", json!("\"quoted\""))]
fn a_nullable_text_keeps_what_looks_like_another_type(#[case] text: &str, #[case] expected: Value) {
    for schema in nullable_texts() {
        for format in [ToolFormat::QwenXml, ToolFormat::Glm] {
            assert_eq!(argument(&schema, format, text), expected, "{schema} {format:?}");
        }
    }
}

#[rstest]
#[case(json!({"type": ["string", "integer"]}), "5", json!(5))]
#[case(json!({"type": ["string", "integer"]}), "5.5", json!("5.5"))]
#[case(json!({"type": ["string", "object"]}), "{\"a\": 1}", json!({"a": 1}))]
#[case(json!({"type": ["string", "object"]}), "7", json!("7"))]
#[case(json!({"const": "7"}), "7", json!("7"))]
#[case(json!({"enum": ["7", null]}), "7", json!("7"))]
#[case(json!({"enum": [7, 8]}), "7", json!(7))]
#[case(json!({"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}]}), "7", json!(7))]
#[case(json!({"type": "boolean"}), "True", json!(true))]
fn an_argument_has_a_type_that_its_schema_allows(
    #[case] schema: Value,
    #[case] text: &str,
    #[case] expected: Value,
) {
    for format in [ToolFormat::QwenXml, ToolFormat::Glm] {
        assert_eq!(argument(&schema, format, text), expected, "{schema} {format:?}");
    }
}
