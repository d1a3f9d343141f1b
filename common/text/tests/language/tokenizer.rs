//! Tokenizers produce the same ids as transformers.

use std::time::{Duration, Instant};

use serde_json::Value;
use videosdgx_text::{
    AllowSpecial, GgufVocabulary, RenderedPrompt, ShowSpecial, TextAssets, Tokenizer, TokenizerError,
};

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|id| u32::try_from(id.as_u64().expect("a number")).expect("an id"))
        .collect()
}

fn check(tokenizer: &Tokenizer, cases: &Value, decodes: bool) {
    let cases = cases.as_array().expect("a list");
    assert!(cases.len() > 200);
    for case in cases {
        let text = case["text"].as_str().expect("a text");
        let expected = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(text, AllowSpecial::All).expect("encodes"), expected, "{text:?}");
        let plain = case.get("plain").map_or_else(|| expected.clone(), ids);
        assert_eq!(tokenizer.encode(text, AllowSpecial::None).expect("encodes"), plain, "plain {text:?}");
        if decodes {
            assert_eq!(tokenizer.decode(&expected, ShowSpecial::Keep), case["decoded"], "{text:?}");
        }
    }
}

#[test]
fn byte_level_ids_and_texts_are_the_reference_s() {
    check(&crate::support::qwen(), &crate::support::json("tokens.json")["tokenizer"], true);
}

#[test]
fn byte_fallback_ids_are_the_reference_s() {
    check(&crate::support::llama(), &crate::support::json("tokens.json")["llama"], true);
}

/// The vocabulary in the published GGUF file, compared with transformers' tokenizer built from the same file.
#[test]
fn the_published_gguf_file_s_ids_are_the_reference_s() {
    let assets = TextAssets::open(crate::support::smollm2()).expect("scripts/setup brings the file");
    check(assets.tokenizer().expect("a tokenizer"), &crate::support::json("smollm2.json"), true);
}

fn as_gguf() -> GgufVocabulary {
    let json = crate::support::json("tokenizer.json");
    let mut tokens: Vec<String> = Vec::new();
    let mut types = Vec::new();
    let mut put = |id: &Value, content: &str, kind| {
        let id = usize::try_from(id.as_u64().expect("an id")).expect("an id");
        tokens.resize(tokens.len().max(id + 1), String::new());
        types.resize(types.len().max(id + 1), 1);
        content.clone_into(&mut tokens[id]);
        types[id] = kind;
    };
    for (token, id) in json["model"]["vocab"].as_object().expect("a map") {
        put(id, token, 1);
    }
    for added in json["added_tokens"].as_array().expect("a list") {
        put(
            &added["id"],
            added["content"].as_str().expect("a text"),
            if added["special"] == true { 3 } else { 4 },
        );
    }
    let merges = json["model"]["merges"].as_array().expect("a list").iter();
    let merges = merges
        .map(|pair| format!("{} {}", pair[0].as_str().expect("left"), pair[1].as_str().expect("right")));
    GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: "qwen2".to_owned(),
        tokens,
        merges: merges.collect(),
        token_types: types,
        eos: Some(2),
        ..GgufVocabulary::default()
    }
}

#[test]
fn a_vocabulary_means_the_same_in_both_formats() {
    let tokenizer = Tokenizer::from_gguf(as_gguf()).expect("a tokenizer");
    check(&tokenizer, &crate::support::json("tokens.json")["tokenizer"], true);
}

#[test]
fn kinds_that_are_not_known_are_refused_by_name() {
    let refused = |vocabulary| Tokenizer::from_gguf(vocabulary).expect_err("refused").to_string();
    let wrong = refused(GgufVocabulary { pre: "viking".to_owned(), ..as_gguf() });
    assert_eq!(wrong, "tokenizer.ggml.pre \"viking\" is not supported");
    let wrong = refused(GgufVocabulary { model: "t5".to_owned(), ..as_gguf() });
    assert_eq!(wrong, "tokenizer.ggml.model \"t5\" is not supported");
}

#[test]
fn vocabularies_that_lie_are_invalid() {
    let refused = |vocabulary| match Tokenizer::from_gguf(vocabulary) {
        Err(TokenizerError::Invalid(reason)) => reason.to_string(),
        other => panic!("{other:?}"),
    };
    let mut lying = as_gguf();
    lying.merges.push("nowhere nothing".to_owned());
    assert!(refused(lying).contains("merges"));
    assert!(refused(GgufVocabulary { merges: vec!["x".to_owned()], ..as_gguf() }).contains("merges[0]"));
    assert!(refused(GgufVocabulary { token_types: vec![1], ..as_gguf() }).contains("token_type"));
    assert!(refused(GgufVocabulary { eos: Some(1 << 30), ..as_gguf() }).contains("eos_token_id"));
    assert!(refused(GgufVocabulary { tokens: Vec::new(), ..as_gguf() }).contains("tokens"));
    for json in ["", "{}", "[1]", r#"{"version":"1.0","model":{"type":"BPE","vocab":{},"merges":[]}}"#] {
        assert!(
            matches!(Tokenizer::from_json(json.as_bytes(), None, None), Err(TokenizerError::Invalid(_))),
            "{json}"
        );
    }
}

#[test]
fn a_beginning_token_is_the_prompt_s_prefix() {
    assert_eq!(crate::support::llama().prompt_prefix(), [1]);
    assert!(crate::support::qwen().prompt_prefix().is_empty());
    let with = GgufVocabulary { bos: Some(600), add_bos: Some(true), ..as_gguf() };
    assert_eq!(Tokenizer::from_gguf(with).expect("a tokenizer").prompt_prefix(), [600]);
}

#[test]
fn bytes_of_tokens_are_the_text() {
    let tokenizer = crate::support::qwen();
    for text in ["héllo 😀\n", "<|im_end|>", "a <tool_call>b"] {
        let ids = tokenizer.encode(text, AllowSpecial::All).expect("encodes");
        let bytes: Vec<u8> =
            ids.iter().flat_map(|id| tokenizer.token_bytes(*id).expect("a token")).copied().collect();
        assert_eq!(bytes, text.as_bytes());
    }
    assert_eq!(tokenizer.token_bytes(u32::MAX), None);
    assert!(tokenizer.is_special(tokenizer.token_id("<|im_end|>").expect("there")));
    assert!(!tokenizer.is_special(tokenizer.token_id("<tool_call>").expect("there")));
    let ids = tokenizer.encode("a<|im_end|>b<think>", AllowSpecial::All).expect("encodes");
    assert_eq!(tokenizer.decode(&ids, ShowSpecial::Skip), "ab<think>");
}

#[test]
fn a_trusted_prompt_is_encoded_with_its_special_tokens() {
    let tokenizer = crate::support::qwen();
    let prompt = RenderedPrompt::trusted("<|im_start|>x<|im_end|>".to_owned());
    let ids = tokenizer.encode_rendered(&prompt).expect("encodes");
    assert_eq!(ids, tokenizer.encode(prompt.text(), AllowSpecial::All).expect("encodes"));
}

/// The time for long texts is proportional to their length; texts above the limit are refused at once.
#[test]
fn long_texts_take_bounded_time() {
    let tokenizer = crate::support::qwen();
    let longest = 24 << 10;
    for unit in ["a", " ", "\n", "1", "é", "ab ", "😀", "<|im_", "!", "\u{301}", " \t"] {
        let text = unit.repeat(longest / unit.len());
        let start = Instant::now();
        let ids = tokenizer.encode(&text, AllowSpecial::None).expect("encodes");
        let took = start.elapsed();
        assert_eq!(tokenizer.decode(&ids, ShowSpecial::Keep).len(), text.len(), "{unit:?}");
        assert!(took < Duration::from_secs(10), "{unit:?} took {took:?}");
        println!("24 KiB of {unit:?}: {took:?}, {} tokens", ids.len());
    }
    let text = "a".repeat(videosdgx_text::MAX_INPUT_BYTES + 1);
    let start = Instant::now();
    assert!(matches!(tokenizer.encode(&text, AllowSpecial::All), Err(TokenizerError::TooLong { .. })));
    assert!(start.elapsed() < Duration::from_millis(100));
}
