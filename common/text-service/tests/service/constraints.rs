//! Constraints of answers together with tools, and constraints that are costly to compile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{TestService, TextClient as _};

#[actix_web::test]
async fn a_schema_that_cannot_be_enforced_does_not_hinder_a_call() {
    let service = TestService::start().await;
    let tester = service.tester();
    for parameters in [
        json!({"type": "object", "propertyNames": {"minLength": 2}, "properties": {"m": {"type": "boolean"}}, "required": ["m"]}),
        json!({"type": "object", "required": null, "properties": null}),
        json!({"type": "object", "properties": {"m": {"minimum": 5, "maximum": 1, "type": "integer"}}, "required": ["m"]}),
        json!({"type": "object", "properties": {"m": {"type": "boolean"}}, "not": {"required": ["a"]}, "required": ["m"]}),
    ] {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
        let mut more = json!({"tools": [tool], "tool_choice": "required", "max_tokens": 400});
        let answer = tester.chat("say x", more.clone()).await.expect(200);
        assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "f", "{parameters}");
        more["tool_choice"] = json!("auto");
        more["response_format"] = json!({"type": "json_object"});
        tester.chat("say x", more.clone()).await.expect(200);
        if parameters.get("propertyNames").is_some() {
            more["tools"][0]["function"]["strict"] = json!(true);
            assert_eq!(tester.chat("say x", more.clone()).await.status, 400, "strict");
        }
    }
}

#[actix_web::test]
async fn a_forced_call_may_come_with_a_response_format() {
    let service = TestService::start().await;
    let tester = service.tester();
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object",
        "properties": {"m": {"type": "boolean"}}, "required": ["m"], "additionalProperties": false}}}]);
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "f"}})] {
        for format in [
            json!({"type": "json_object"}),
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}),
        ] {
            let more =
                json!({"tools": tools, "tool_choice": choice, "response_format": format, "max_tokens": 200});
            let answer = tester.chat("say x", more).await.expect(200);
            assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{choice}: {answer}");
        }
        let more = json!({"tools": tools, "tool_choice": choice, "guided_regex": "a"});
        assert_eq!(tester.chat("say x", more).await.error(400).0, "tool_choice");
    }
}

#[actix_web::test]
async fn a_json_object_may_have_a_schema() {
    let service = TestService::start().await;
    let tester = service.tester();
    let schema = json!({"type": "object", "properties": {"zz": {"const": 1}}, "required": ["zz"], "additionalProperties": false});
    let more = json!({"response_format": {"type": "json_object", "schema": schema}, "max_tokens": 60});
    let answer = tester.chat("say x", more).await.expect(200);
    let content: Value =
        serde_json::from_str(answer["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert_eq!(content, json!({"zz": 1}));
    for (more, field) in [
        (
            json!({"structured_outputs": {"structural_tag": {"format": {}}}}),
            "structured_outputs.structural_tag",
        ),
        (json!({"response_format": {"type": "structural_tag", "format": {}}}), "response_format.type"),
        (json!({"guided_json": {"const": 9_007_199_254_740_993_i64}}), "guided_json"),
    ] {
        assert_eq!(tester.chat("say x", more.clone()).await.error(400).0, field, "{more}");
    }
}

#[actix_web::test]
async fn a_regex_before_a_call_may_contain_escaped_slashes() {
    let service = TestService::start().await;
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let more = json!({"guided_regex": "https:\\/\\/[a-c]{3}/x", "tools": tools, "max_tokens": 60});
    let answer = service.tester().chat("say x", more).await.expect(200);
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.starts_with("https://") && content.ends_with("/x"), "{content}");
}

/// Twenty costly constraints of one principal, on every route that takes one: others are answered meanwhile.
#[actix_web::test]
async fn a_costly_constraint_delays_nobody_else() {
    let service = TestService::start().await;
    service.tester().chat("say a", json!({})).await.expect(200);
    let attacker = service.client("attacker", "generate read");
    let bombs = futures::future::join_all((0..20).map(|number| {
        let attacker = attacker.clone();
        async move {
            let regex = format!("{number}{}", ".*".repeat(5_000 + number));
            match number % 2 {
                0 => attacker.chat("say a", json!({"guided_regex": regex})).await.status,
                _ => {
                    let params = json!({"structured_outputs": {"regex": regex}});
                    let lines =
                        attacker.post("/stream/generate", json!({"prompt": "a", "params": params})).await;
                    assert!(lines.text().contains("error"), "{}", lines.text());
                    lines.status
                }
            }
        }
    }));
    let others = async {
        let tester = service.tester();
        let mut slowest = Duration::ZERO;
        for number in 0..10 {
            let start = Instant::now();
            assert_eq!(service.anonymous().get("/health").await.status, 200);
            let more = json!({"guided_regex": format!("{number}[ab]{{2}}"), "max_tokens": 10});
            tester.chat("say a", more).await.expect(200);
            slowest = slowest.max(start.elapsed());
        }
        slowest
    };
    let (bombs, slowest) = futures::join!(bombs, others);
    println!("{bombs:?}, slowest {slowest:?}");
    assert!(bombs.iter().all(|status| matches!(status, 200 | 400 | 429)), "{bombs:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
