//! Constructs of templates give the text that jinja2 gives (`tests/reference/jinja2_constructs.py`).

use std::collections::BTreeMap;

use serde_json::Value;
use videosdgx_text::{ChatTemplate, TemplateInput};

/// What differs. No published template uses it.
const DIFFERENT: [&str; 27] = [
    // Tuples are written as lists.
    r#"{{ text.partition(" ") }}"#,
    r#"{{ text.rpartition("o") }}"#,
    r#"{{ text.partition("zz") }}"#,
    "{{ map | dictsort }}",
    "{{ map | items | list }}",
    "{{ map.items() | list }}",
    "{{ (1, 2) }}",
    "{{ (1,) }}",
    // Not supported.
    r#"{{ "%r" % text }}"#,
    r#"{{ "{!r}".format(text) }}"#,
    r#"{{ "Ab Cd".istitle() }}"#,
    r#"{{ "abc".isidentifier() }}"#,
    r#"{{ "a\tb".expandtabs(4) }}"#,
    "{{ text | wordwrap(5) }}",
    "{{ map | xmlattr }}",
    r#"{{ "trim" is filter }}"#,
    r#"{{ "odd" is test }}"#,
    "{{ text is escaped }}",
    "{{ +number }}",
    r#"{{ "a b" | urlencode }}"#,
    "{{ items | random is number }}",
    "{{ 1000 | filesizeformat }}",
    "{{ map | pprint }}",
    "{{ cycler('a', 'b').next() }}",
    "{% set j = joiner(', ') %}{% for i in items %}{{ j() }}{{ i }}{% endfor %}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}{{ m(1, 3, 4, c=5) }}",
    "{% block a %}in block{% endblock %}",
];

fn render(source: &str, context: &Value) -> Result<String, String> {
    let template =
        ChatTemplate::new(source, BTreeMap::new(), None).map_err(|error| format!("invalid: {error}"))?;
    let messages = vec![serde_json::json!({"role": "user", "content": "hi"})];
    let kwargs = context.as_object().expect("a map").clone();
    let input = TemplateInput { messages, kwargs, ..TemplateInput::default() };
    template.render(&input).map(|prompt| prompt.text().to_owned()).map_err(|error| error.to_string())
}

#[test]
fn constructs_give_the_text_of_jinja2() {
    let golden = crate::support::json("jinja2.json");
    let cases = golden["cases"].as_array().expect("a list");
    let mut different = Vec::new();
    for case in cases {
        let source = case["source"].as_str().expect("a text");
        let Some(expected) = case["text"].as_str() else { continue };
        let given = render(source, &golden["context"]);
        if given.as_deref() != Ok(expected) {
            different.push((source, format!("{source}\n   expected {expected:?}\n   given    {given:?}")));
        }
    }
    let known = |source: &str| DIFFERENT.contains(&source);
    let new: Vec<&str> =
        different.iter().filter(|(source, _)| !known(source)).map(|(_, text)| text.as_str()).collect();
    assert!(new.is_empty(), "{} of {} differ:\n{}", new.len(), cases.len(), new.join("\n"));
    // An entry that no longer differs is removed from the list.
    for source in DIFFERENT {
        assert!(different.iter().any(|(different, _)| *different == source), "{source} is equal");
    }
}
