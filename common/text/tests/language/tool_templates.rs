//! Tools in templates: named templates, the generic form, the history of calls, and messages that are continued.

use std::collections::BTreeMap;
use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};
use videosdgx_text::{
    AllowSpecial, ChatTemplate, OutputParser, TemplateError, TemplateInput, TextAssets, ToolFormat,
};

use crate::support;

const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const HERMES: &str = "{% for tool in tools %}<tool>{{ tool.function.name }}</tool>{% endfor %}<tool_call>";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, BTreeMap::new(), Some(support::qwen())).expect("a template")
}

fn tools() -> Vec<Value> {
    vec![json!({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}}}})]
}

fn input(messages: Value, tools: Vec<Value>) -> TemplateInput {
    let messages = messages.as_array().expect("a list").clone();
    TemplateInput { messages, tools, add_generation_prompt: true, ..TemplateInput::default() }
}

fn text(template: &ChatTemplate, input: &TemplateInput) -> String {
    template.render(input).unwrap_or_else(|error| panic!("{error}")).text().to_owned()
}

fn checkpoint(folder: &Path, files: &[(&str, &str)]) -> TextAssets {
    let config = r#"{"model_type": "qwen3", "max_position_embeddings": 4096, "eos_token_id": 1}"#;
    let tokenizer = String::from_utf8(support::read("tokenizer.json")).expect("UTF-8");
    for (name, content) in files.iter().chain(&[("config.json", config), ("tokenizer.json", &tokenizer)]) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, content).expect("written");
    }
    TextAssets::open(folder).expect("opens")
}

#[rstest]
#[case(&[("tokenizer_config.json", json!({"chat_template": [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": HERMES}]}).to_string())])]
#[case(&[("tokenizer_config.json", json!({"chat_template": {"default": CHATML, "tool_use": HERMES}}).to_string())])]
#[case(&[("chat_template.jinja", CHATML.to_owned()), ("additional_chat_templates/tool_use.jinja", HERMES.to_owned())])]
#[case(&[("tokenizer_config.json", json!({"chat_template": CHATML}).to_string()), ("additional_chat_templates/tool_use.jinja", HERMES.to_owned())])]
fn the_template_named_tool_use_is_used_with_tools(#[case] files: &[(&str, String)]) {
    let folder = tempfile::tempdir().expect("a folder");
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let assets = checkpoint(folder.path(), &files);
    let template = assets.template().expect("valid").expect("there");
    let user = json!([{"role": "user", "content": "hi"}]);
    assert_eq!(text(template, &input(user.clone(), tools())), "<tool>get_weather</tool><tool_call>");
    assert!(text(template, &input(user, Vec::new())).starts_with("<|im_start|>user\nhi"));
    assert_eq!(assets.output_format().expect("valid").tools, Some(ToolFormat::Hermes));
    assert_eq!(assets.tool_format().expect("valid"), Some((ToolFormat::Hermes, false)));
}

#[rstest]
#[case("\r\n")]
#[case("\r")]
fn line_ends_of_a_template_are_one_character(#[case] end: &str) {
    let source = CHATML.replace('\n', end);
    let rendered =
        text(&template(&source), &input(json!([{"role": "user", "content": "a\r\nb"}]), Vec::new()));
    assert_eq!(rendered, "<|im_start|>user\na\r\nb<|im_end|>\n<|im_start|>assistant\n", "messages are kept");
}

/// `arguments` of the history that are not a JSON object: also what an answer of this server contained.
#[rstest]
#[case(json!("null"), "{}", "{}")]
#[case(json!(""), "{}", "{}")]
#[case(json!("{\"city\": \"Paris\"}"), "{\"city\": \"Paris\"}", "{\"city\": \"Paris\"}")]
#[case(json!("\"Paris\""), "\"Paris\"", "{\"arguments\": \"\\\"Paris\\\"\"}")]
#[case(json!("[\"Paris\"]"), "[\"Paris\"]", "{\"arguments\": \"[\\\"Paris\\\"]\"}")]
#[case(json!("{\"city\": \"Par"), "{\"city\": \"Par", "{\"arguments\": \"{\\\"city\\\": \\\"Par\"}")]
#[case(json!("{'city': 'Paris'}"), "{'city': 'Paris'}", "{\"arguments\": \"{'city': 'Paris'}\"}")]
#[case(json!(["Paris"]), "[\"Paris\"]", "{\"arguments\": \"[\\\"Paris\\\"]\"}")]
fn arguments_of_the_history_are_kept(
    #[case] arguments: Value,
    #[case] as_text: &str,
    #[case] as_object: &str,
) {
    let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": null, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}]}]);
    let loops = "{% for message in messages %}{% for call in message.tool_calls or [] %}<tool_call>";
    let takes_text = format!(
        "{loops}{{% if call.function.arguments is string %}}{{{{ call.function.arguments }}}}{{% else %}}\
         {{{{ call.function.arguments | tojson }}}}{{% endif %}}{{% endfor %}}{{% endfor %}}"
    );
    let rendered = text(&template(&takes_text), &input(messages.clone(), Vec::new()));
    assert_eq!(rendered, format!("<tool_call>{as_text}"));
    let takes_objects =
        format!("{loops}{{{{ call.function.arguments | tojson }}}}{{% endfor %}}{{% endfor %}}");
    let rendered = text(&template(&takes_objects), &input(messages, Vec::new()));
    assert_eq!(rendered, format!("<tool_call>{as_object}"));
}

#[test]
fn published_templates_render_any_arguments() {
    for name in ["qwen3.jinja", "qwen3_coder.jinja", "qwen3_vl.jinja", "glm4.jinja", "smollm2.jinja"] {
        let source = String::from_utf8(support::read(&format!("templates/{name}"))).expect("UTF-8");
        for arguments in ["null", "\"Paris\"", "[1]", "{\"city\": \"Par", "{'city': 'Paris'}", ""] {
            let messages = json!([{"role": "user", "content": "hi"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "error"}, {"role": "user", "content": "go on"}]);
            let rendered = text(&template(&source), &input(messages, tools()));
            assert!(rendered.contains("get_weather"), "{name} {arguments}: {rendered}");
        }
    }
}

#[test]
fn a_template_without_tools_gets_a_generic_form() {
    let chatml = template(CHATML);
    assert!(chatml.has_generic_tools());
    let messages = json!([
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "Wait.", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "sunny"}, {"role": "user", "content": "and now?"}]);
    let rendered = text(&chatml, &input(messages.clone(), tools()));
    let (system, rest) = rendered.split_once("<|im_end|>").expect("a system message");
    assert!(system.starts_with("<|im_start|>system\nBe brief.\n\n# Tools\n\n"), "{system}");
    assert!(
        system.contains("\n<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"get_weather\""),
        "{system}"
    );
    assert_eq!(
        rest,
        "\n<|im_start|>user\nweather?<|im_end|>\n<|im_start|>assistant\nWait.\n<tool_call>\n\
         {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call><|im_end|>\n<|im_start|>user\n\
         <tool_response>\nsunny\n</tool_response>\nand now?<|im_end|>\n<|im_start|>assistant\n"
    );
    // Without tools nothing changes.
    let plain = json!([{"role": "user", "content": "hi"}]);
    assert_eq!(
        text(&chatml, &input(plain.clone(), Vec::new())),
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
    // A template that refuses system messages and roles that do not alternate.
    let strict = "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}\
                  {% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}\
                  [{{ message.role }}] {{ message.content }}{% endfor %}";
    let rendered = text(&template(strict), &input(messages, tools()));
    assert!(rendered.starts_with("[user] Be brief.\n\n# Tools"), "{rendered}");
    assert!(matches!(
        template(strict).render(&input(json!([{"role": "assistant", "content": "hi"}]), Vec::new())),
        Err(TemplateError::Raised(_))
    ));
}

#[rstest]
#[case("The capital of France is Par", "The capital of France is Par")]
#[case("ends with a blank ", "ends with a blank ")]
#[case("a <|im_end|> b", "a <|im_end|> b")]
#[case("", "")]
fn a_message_is_continued(#[case] content: &str, #[case] expected: &str) {
    let tokenizer = support::qwen();
    let messages = json!([{"role": "user", "content": "What is the capital?"}, {"role": "assistant", "content": content}]);
    let continued = TemplateInput { continue_final_message: true, ..input(messages, Vec::new()) };
    for source in [CHATML.to_owned(), CHATML.replace("message.content", "message.content | trim")] {
        let rendered = template(&source).render(&continued).expect("renders");
        let before = "<|im_start|>user\nWhat is the capital?<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(rendered.text(), format!("{before}{expected}"));
        let ends = tokenizer.token_id("<|im_end|>").expect("there");
        let ids = tokenizer.encode_rendered(&rendered).expect("encodes");
        assert_eq!(ids.iter().filter(|id| **id == ends).count(), 1, "the message cannot end itself");
        assert!(
            ids.len() > tokenizer.encode(before, AllowSpecial::All).expect("encodes").len()
                || content.is_empty()
        );
    }
}

#[test]
fn only_text_of_the_assistant_is_continued() {
    let field = |source: &str, messages: Value| {
        let continued = TemplateInput { continue_final_message: true, ..input(messages, Vec::new()) };
        match template(source).render(&continued) {
            Err(TemplateError::Message { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(CHATML, json!([{"role": "user", "content": "hi"}])), "messages[0]");
    let call = json!([{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}]);
    assert_eq!(field(CHATML, call), "messages[0]");
    let unseen = "{% for message in messages %}{{ message.role }}{% endfor %}";
    assert_eq!(field(unseen, json!([{"role": "assistant", "content": "a"}])), "messages[0].content");
}

#[test]
fn a_continued_message_may_be_inside_its_reasoning() {
    for (prompt, inside) in [
        ("<|im_start|>assistant\n<think>\nSo far", true),
        ("<|im_start|>assistant\n<think>\nDone</think>\n\nThe", false),
        ("<|im_start|>assistant\nThe", false),
    ] {
        assert_eq!(OutputParser::prompt_is_inside_reasoning(prompt), inside, "{prompt}");
    }
}
