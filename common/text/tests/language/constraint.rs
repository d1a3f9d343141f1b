//! Constraints allow exactly the specified output, token by token.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use videosdgx_text::{
    Constraint, ConstraintCompiler, ConstraintError, Matcher, OutputFormat, OutputParser, ShowSpecial,
    TextAssets, Tokenizer, ToolChoice, ToolFormat, ToolSet, tool_constraint,
};

fn compiler() -> (Tokenizer, ConstraintCompiler) {
    let tokenizer = crate::support::qwen();
    let end = tokenizer.token_id("<|im_end|>").expect("there");
    let compiler = ConstraintCompiler::new(&tokenizer, &[end]).expect("compiles");
    (tokenizer, compiler)
}

fn allowed(matcher: &mut Matcher, vocab: usize) -> Vec<u32> {
    let mut logits = vec![0.0; vocab + 70];
    matcher.mask_logits(&mut logits).expect("goes on");
    let mut words = vec![u32::MAX; logits.len().div_ceil(32)];
    matcher.allowed(&mut words).expect("goes on");
    (0_u32..).zip(&logits).for_each(|(id, logit)| {
        assert_eq!(words[id as usize / 32] >> (id % 32) & 1 == 1, *logit == 0.0, "token {id}");
    });
    assert!(logits[vocab..].iter().all(|logit| *logit == f32::NEG_INFINITY), "ids beyond the vocabulary");
    (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0).map(|(id, _)| id).collect()
}

/// Generates a random output that the constraint allows.
fn wander(tokenizer: &Tokenizer, mut matcher: Matcher, seed: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    let end = tokenizer.token_id("<|im_end|>").expect("there");
    let mut ids = Vec::new();
    while !matcher.is_finished() {
        let allowed = allowed(&mut matcher, tokenizer.vocab_size());
        assert!(
            !allowed.is_empty(),
            "seed {seed}: stuck after {:?}",
            tokenizer.decode(&ids, ShowSpecial::Keep)
        );
        assert_eq!(allowed.contains(&end), matcher.may_finish(), "seed {seed}");
        // Otherwise random strings would not end.
        let closing = allowed.iter().copied().find(|id| tokenizer.token_bytes(*id) == Some(b"\""));
        let id = match closing {
            Some(id) if random.random_bool(0.3) => id,
            _ if allowed.contains(&end) && random.random_bool(0.5) => end,
            _ => allowed[random.random_range(0..allowed.len())],
        };
        matcher.accept(id).expect("allowed");
        if id != end {
            ids.push(id);
        }
        if ids.len() > 3000 {
            return String::new();
        }
    }
    tokenizer.decode(&ids, ShowSpecial::Keep)
}

#[test]
fn chance_within_a_schema_writes_what_the_schema_says() {
    let (tokenizer, compiler) = compiler();
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 10}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["a", "b"]}, "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
        "required": ["name", "age", "kind", "tags"], "additionalProperties": false});
    let mut ended = 0;
    for seed in 0..20 {
        let matcher = compiler.compile(&Constraint::JsonSchema(schema.clone())).expect("compiles");
        let text = wander(&tokenizer, matcher, seed);
        if text.is_empty() {
            continue;
        }
        ended += 1;
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("seed {seed}: {text:?}: {error}"));
        assert!(value["age"].as_u64().is_some_and(|age| age <= 150), "{text}");
        assert!(["a", "b"].contains(&value["kind"].as_str().expect("a text")), "{text}");
        assert!(value["tags"].as_array().expect("a list").iter().all(Value::is_boolean), "{text}");
        assert_eq!(value.as_object().expect("an object").len(), 4);
    }
    assert!(ended > 10, "only {ended} ended");
}

#[test]
fn a_regex_and_a_grammar_are_kept() {
    let (tokenizer, compiler) = compiler();
    for seed in 0..10 {
        let text = wander(
            &tokenizer,
            compiler.compile(&Constraint::Regex("(yes|no){1,3}!".to_owned())).expect("compiles"),
            seed,
        );
        let words = text.strip_suffix('!').expect("ends");
        assert!(words.replace("yes", "").replace("no", "").is_empty() && !words.is_empty(), "{text}");
        let grammar = "start: \"a\" start \"b\" | \"c\"".to_owned();
        let text = wander(&tokenizer, compiler.compile(&Constraint::Lark(grammar)).expect("compiles"), seed);
        let depth = text.matches('a').count();
        assert_eq!(text, format!("{}c{}", "a".repeat(depth), "b".repeat(depth)));
    }
}

#[test]
fn any_object_is_an_object() {
    let (tokenizer, compiler) = compiler();
    let mut matcher = compiler.compile(&Constraint::JsonObject).expect("compiles");
    let text = "{\"a\": [1, {\"b\": null}]}";
    let ids = tokenizer.encode(text, videosdgx_text::AllowSpecial::None).expect("encodes");
    for id in ids {
        assert!(
            allowed(&mut matcher, tokenizer.vocab_size()).contains(&id),
            "{:?}",
            tokenizer.token_bytes(id)
        );
        matcher.accept(id).expect("allowed");
    }
    assert!(matcher.may_finish() || matcher.is_finished());
    let mut list = compiler.compile(&Constraint::JsonObject).expect("compiles");
    let bracket = tokenizer.token_id("[").expect("there");
    assert!(!allowed(&mut list, tokenizer.vocab_size()).contains(&bracket));
    assert!(matches!(list.accept(bracket), Err(ConstraintError::Stuck(_))));
}

#[test]
fn a_step_is_taken_back() {
    let (tokenizer, compiler) = compiler();
    let mut matcher = compiler.compile(&Constraint::Regex("[ab]{4}".to_owned())).expect("compiles");
    let (a, b) = (tokenizer.token_id("a").expect("there"), tokenizer.token_id("b").expect("there"));
    matcher.accept(a).expect("allowed");
    let before = allowed(&mut matcher, tokenizer.vocab_size());
    let mut copy = matcher.clone();
    copy.accept(b).expect("allowed");
    copy.accept(b).expect("allowed");
    assert_eq!(allowed(&mut matcher, tokenizer.vocab_size()), before);
    matcher.accept(a).expect("allowed");
    matcher.rollback(1).expect("one step");
    assert_eq!(allowed(&mut matcher, tokenizer.vocab_size()), before);
    copy.accept(a).expect("allowed");
    assert!(copy.is_finished());
    let end = tokenizer.token_id("<|im_end|>").expect("there");
    assert_eq!(allowed(&mut copy, tokenizer.vocab_size()), [end]);
}

#[test]
fn forced_tokens_are_the_tokenizer_s_own() {
    let (tokenizer, compiler) = compiler();
    let mut matcher =
        compiler.compile(&Constraint::Regex("Hello, world! (yes|no)".to_owned())).expect("compiles");
    let forced = matcher.forced_tokens();
    let whole = tokenizer.encode("Hello, world!", videosdgx_text::AllowSpecial::None).expect("encodes");
    assert!(
        !forced.is_empty() && whole.starts_with(&forced[..forced.len().min(whole.len())]),
        "{forced:?} {whole:?}"
    );
}

#[test]
fn what_is_wrong_is_named_soon() {
    let (_, compiler) = compiler();
    let nested = (0..100).fold(json!({}), |schema, _| json!({"type": "array", "items": schema}));
    let bombs = [
        (Constraint::Regex("(".to_owned()), true),
        (Constraint::Lark("start: nothing".to_owned()), true),
        (Constraint::Lark(String::new()), true),
        (Constraint::Lark("start: \"a\"\n".repeat(20_000)), true),
        (Constraint::JsonSchema(json!({"type": "nonsense"})), true),
        (Constraint::JsonSchema(json!({"$ref": "https://example.com/schema"})), true),
        (Constraint::JsonSchema(json!({"$ref": "#/nowhere"})), true),
        (Constraint::JsonSchema(nested), true),
        (Constraint::JsonSchema(json!({"type": "string", "pattern": "("})), true),
        (Constraint::JsonSchema(json!({"enum": ["x".repeat(300_000)]})), true),
        (Constraint::Regex("((((a{1000}){1000}){1000}){1000}){1000}".to_owned()), false),
        (Constraint::Regex("(a|b)*a(a|b){5000}".to_owned()), false),
        (Constraint::Regex("(?:.{0,999}x){0,999}".to_owned()), false),
        (Constraint::JsonSchema(json!({"type": "array", "minItems": 4_000_000_000_u64})), false),
        (Constraint::JsonSchema(json!({"type": "string", "minLength": 4_000_000_000_u64})), false),
        (Constraint::JsonSchema(json!({"allOf": vec![json!({"pattern": "(a|b)*a(a|b){50}"}); 40]})), false),
        (Constraint::Lark(format!("start: {}", "x ".repeat(20_000) + "\nx: \"a\"?")), false),
    ];
    for (constraint, wrong) in bombs {
        let short: String = format!("{constraint:?}").chars().take(80).collect();
        let start = Instant::now();
        let compiled = compiler.compile(&constraint);
        let took = start.elapsed();
        println!(
            "{took:?} {short} {:?}",
            compiled.as_ref().map_err(|error| error.to_string().chars().take(120).collect::<String>())
        );
        assert!(took < Duration::from_secs(30), "{short} took {took:?}");
        match compiled {
            // Either the first step is refused as too complex, or each mask is computed quickly.
            Err(ConstraintError::Invalid(reason)) => {
                assert!(!reason.is_empty() && reason.len() < 2000, "{short}: {reason}")
            }
            Err(ConstraintError::TooSlow) if !wrong => {}
            Ok(mut matcher) if !wrong => {
                let mut logits = vec![0.0; 1000];
                let start = Instant::now();
                let masked = matcher.mask_logits(&mut logits);
                println!("   mask {:?} {:?}", start.elapsed(), masked.is_ok());
                assert!(start.elapsed() < Duration::from_secs(15));
            }
            other => panic!("{short}: {other:?}"),
        }
    }
}

#[test]
fn a_constraint_is_compiled_once() {
    let assets = TextAssets::open(crate::support::smollm2()).expect("scripts/setup brings the file");
    let compiler = assets.constraints().expect("compiles");
    let properties: serde_json::Map<String, Value> = (0..200)
        .map(|number| (format!("field_{number}"), json!({"type": "string", "pattern": "^[a-z]{3,40}$"})))
        .collect();
    let constraint = Constraint::JsonSchema(json!({"type": "object", "properties": properties}));
    let time = || {
        let start = Instant::now();
        compiler.compile(&constraint).expect("compiles");
        start.elapsed()
    };
    let (first, again) = (time(), (0..3).map(|_| time()).min().expect("three"));
    println!("{first:?}, then {again:?}");
    assert!(again * 2 < first, "{again:?} after {first:?}");
}

/// Random output that must call a tool is a call in the model's format, with arguments that match the schema.
#[test]
fn a_required_call_is_a_call() {
    let (tokenizer, compiler) = compiler();
    let tools = ToolSet::parse(&[
        json!({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {
            "kind": {"type": "string", "enum": ["a \"quoted\"", "b"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "on": {"type": "boolean"}}, "required": ["kind", "days"], "additionalProperties": false}}}),
        json!({"type": "function", "function": {"name": "say", "parameters": {"type": "object",
            "properties": {"text": {"type": "string", "maxLength": 20}}, "required": ["text"], "additionalProperties": false}}}),
        json!({"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": false}}}),
    ])
    .expect("valid");
    let choices = [
        ToolChoice::Required,
        ToolChoice::Named("get_weather".to_owned()),
        ToolChoice::Named("now".to_owned()),
    ];
    for format in [ToolFormat::Hermes, ToolFormat::QwenXml, ToolFormat::Glm] {
        let mut ended = 0;
        for (seed, choice) in (0..24).zip(choices.iter().cycle()) {
            let thinking = seed % 4 == 3 && *choice != ToolChoice::Required;
            let constraint = tool_constraint(format, &tools, choice, false, thinking)
                .expect("enforceable")
                .expect("a constraint");
            let matcher = compiler
                .compile(&constraint)
                .unwrap_or_else(|error| panic!("{format:?}: {error}\n{constraint:?}"));
            if thinking {
                // Otherwise random reasoning would not end.
                continue;
            }
            let text = wander(&tokenizer, matcher, seed);
            if text.is_empty() {
                continue;
            }
            ended += 1;
            let output = OutputFormat { tools: Some(format), reasoning: false };
            let mut parser = OutputParser::new(output, tools.clone(), false, "x");
            let mut calls = parser.push(&text).tool_calls;
            let rest = parser.finish();
            calls.extend(rest.tool_calls);
            let names: Vec<&str> = calls.iter().filter_map(|call| call.name.as_deref()).collect();
            assert_eq!(names.len(), 1, "{format:?} seed {seed}: {text}");
            assert_eq!(rest.content, "", "{text}");
            if let ToolChoice::Named(name) = choice {
                assert_eq!(names, [name]);
            }
            let arguments: String = calls.iter().map(|call| call.arguments_delta.as_str()).collect();
            let arguments: Value = serde_json::from_str(&arguments)
                .unwrap_or_else(|error| panic!("{error}: {arguments} of {text}"));
            match names[0] {
                "get_weather" => {
                    assert!(
                        ["a \"quoted\"", "b"].contains(&arguments["kind"].as_str().expect("a text")),
                        "{arguments}"
                    );
                    assert!((1..=9).contains(&arguments["days"].as_u64().expect("a number")), "{arguments}");
                    assert!(arguments.get("on").is_none_or(Value::is_boolean), "{arguments}");
                }
                "say" => assert!(arguments["text"].is_string()),
                _ => assert_eq!(arguments, json!({})),
            }
        }
        assert!(ended >= 8, "{format:?}: only {ended} ended");
    }
}

/// Reasoning before a required call is not constrained.
#[test]
fn a_required_call_follows_the_reasoning() {
    let (tokenizer, compiler) = compiler();
    let tools = ToolSet::parse(&[json!({"type": "function", "function": {"name": "now"}})]).expect("valid");
    for format in [ToolFormat::Hermes, ToolFormat::QwenXml, ToolFormat::Glm] {
        let constraint = tool_constraint(format, &tools, &ToolChoice::Required, true, true)
            .expect("enforceable")
            .expect("a constraint");
        let call = match format {
            ToolFormat::Hermes => "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
            ToolFormat::QwenXml => "<tool_call>\n<function=now>\n</function>\n</tool_call>",
            ToolFormat::Glm => "<tool_call>now</tool_call>",
        };
        let mut matcher = compiler.compile(&constraint).expect("compiles");
        let text = format!("I think <b>.\n</think>\n\n{call}\n{call}");
        for id in tokenizer.encode(&text, videosdgx_text::AllowSpecial::All).expect("encodes") {
            let next = String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap_or_default()).into_owned();
            assert!(!matcher.is_finished(), "{format:?} before {next:?}");
            matcher.accept(id).unwrap_or_else(|error| panic!("{format:?} {next:?}: {error}"));
        }
        assert!(matcher.may_finish(), "{format:?}");
        let mut matcher = compiler.compile(&constraint).expect("compiles");
        let refused = tokenizer.encode("x</think>no", videosdgx_text::AllowSpecial::All).expect("encodes");
        assert!(refused.into_iter().any(|id| matcher.accept(id).is_err()), "{format:?}");
    }
}
