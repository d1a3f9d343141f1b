//! Assets of checkpoints, and errors in their files.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use videosdgx_text::{
    AssetsError, Constraint, Language as _, OutputFormat, TemplateInput, TextAssets, ToolFormat,
};

use crate::support;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    folder
}

fn open(folder: &TempDir) -> Result<TextAssets, AssetsError> {
    TextAssets::open(folder.path())
}

const CONFIG: &str = r#"{"model_type": "qwen3", "max_position_embeddings": 4096, "eos_token_id": 1}"#;

#[test]
fn the_published_gguf_file() {
    for path in [support::smollm2(), support::smollm2().parent().expect("a folder").to_owned()] {
        let assets = TextAssets::open(path).expect("scripts/setup brings the file");
        assert_eq!((assets.family(), assets.context_length()), ("llama", 8192));
        assert_eq!(assets.name(), "Smollm2 135M 8k Lc100K Mix1 Ep2");
        assert_eq!(assets.end_tokens(), [2, 0]);
        assert_eq!(assets.tokenizer().expect("a tokenizer").vocab_size(), 49152);
        let format = OutputFormat { tools: Some(ToolFormat::Hermes), reasoning: false };
        assert_eq!(assets.output_format().expect("valid"), format, "its template has no form for tools");
        assert_eq!(assets.tool_format().expect("valid"), Some((ToolFormat::Hermes, true)));
        assert_eq!(assets.image_token(), None);
    }
}

#[test]
fn a_folder_in_the_published_layout() {
    let tokenizer = String::from_utf8(support::read("tokenizer.json")).expect("UTF-8");
    let template = String::from_utf8(support::read("templates/glm4.jinja")).expect("UTF-8");
    let tokenizer_config = json!({"eos_token": {"content": "<|im_end|>"}, "bos_token": null,
        "chat_template": [{"name": "rag", "template": "no"}, {"name": "default", "template": template}]});
    let folder = folder(&[
        (
            "config.json",
            r#"{"model_type": "qwen3_vl", "text_config": {"max_position_embeddings": 262144}, "image_token_id": 5}"#,
        ),
        (
            "generation_config.json",
            r#"{"eos_token_id": [7, 8, 9], "do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20}"#,
        ),
        ("tokenizer_config.json", &tokenizer_config.to_string()),
        ("tokenizer.json", &tokenizer),
    ]);
    let assets = open(&folder).expect("opens");
    assert_eq!(
        (assets.family(), assets.context_length(), assets.image_token()),
        ("qwen3_vl", 262_144, Some(5))
    );
    let own = assets.tokenizer().expect("a tokenizer").eos().expect("the tokenizer has one");
    assert_eq!(assets.end_tokens(), [7, 8, 9, own]);
    let defaults = assets.defaults();
    assert_eq!(
        (defaults.temperature, defaults.top_p, defaults.top_k, defaults.min_p),
        (Some(0.7), Some(0.8), Some(20), None)
    );
    let format = OutputFormat { tools: Some(ToolFormat::Glm), reasoning: true };
    assert_eq!(assets.output_format().expect("valid"), format);
    let tokenizer = assets.tokenizer().expect("a tokenizer");
    assert_eq!(tokenizer.eos(), tokenizer.token_id("<|im_end|>"));
    std::fs::write(folder.path().join("chat_template.jinja"), "own").expect("written");
    let again = open(&folder).expect("opens");
    assert_eq!(again.template().expect("valid").expect("there").source(), "own");
}

/// Published files of Gemma 3 leave the length out.
#[test]
fn the_context_of_gemma_has_a_default() {
    for config in [
        r#"{"model_type": "gemma3", "text_config": {"hidden_size": 3840}, "eos_token_id": [1, 106]}"#,
        r#"{"model_type": "gemma3_text", "eos_token_id": [1, 106]}"#,
    ] {
        let folder = folder(&[("config.json", config)]);
        let assets = open(&folder).expect("opens");
        assert_eq!((assets.context_length(), assets.image_token()), (131_072, None));
        assert_eq!(assets.end_tokens(), [1, 106]);
    }
}

#[test]
fn what_is_missing_and_what_is_invalid_is_named() {
    let missing = |path: &Path, error: AssetsError| match error {
        AssetsError::Missing { path: given } => assert_eq!(given, path),
        other => panic!("{other:?}"),
    };
    let invalid = |path: &Path, error: AssetsError| match error {
        AssetsError::Invalid { path: given, source } => {
            assert_eq!(given, path);
            assert!(!source.to_string().is_empty());
        }
        other => panic!("{other:?}"),
    };
    let nowhere = Path::new("/nonexistent/checkpoint");
    missing(nowhere, TextAssets::open(nowhere).expect_err("missing"));
    let empty = folder(&[]);
    missing(&empty.path().join("config.json"), open(&empty).expect_err("missing"));
    let broken = folder(&[("config.json", "{")]);
    invalid(&broken.path().join("config.json"), open(&broken).expect_err("invalid"));
    let endless = folder(&[("config.json", r#"{"model_type": "qwen3"}"#)]);
    invalid(&endless.path().join("config.json"), open(&endless).expect_err("invalid"));
    let broken = folder(&[("config.json", CONFIG), ("generation_config.json", "[")]);
    invalid(&broken.path().join("generation_config.json"), open(&broken).expect_err("invalid"));
    let bare = folder(&[("config.json", CONFIG)]);
    let assets = open(&bare).expect("opens");
    missing(&bare.path().join("tokenizer.json"), assets.tokenizer().expect_err("missing"));
    let lying = folder(&[("config.json", CONFIG), ("tokenizer.json", "{}")]);
    invalid(
        &lying.path().join("tokenizer.json"),
        open(&lying).expect("opens").tokenizer().expect_err("invalid"),
    );
    let tokenizer = String::from_utf8(support::read("tokenizer.json")).expect("UTF-8");
    let files =
        [("config.json", CONFIG), ("tokenizer.json", &tokenizer), ("chat_template.jinja", "{% if %}")];
    let crooked = folder(&files);
    let assets = open(&crooked).expect("opens");
    invalid(&crooked.path().join("chat_template.jinja"), assets.template().expect_err("invalid"));
    let file = folder(&[("model.gguf", "GGUF"), ("text.txt", "")]);
    invalid(&file.path().join("model.gguf"), open(&file).expect_err("invalid"));
    invalid(
        &file.path().join("text.txt"),
        TextAssets::open(file.path().join("text.txt")).expect_err("invalid"),
    );
    let two = folder(&[("a.gguf", ""), ("b.gguf", "")]);
    invalid(two.path(), open(&two).expect_err("invalid"));
}

/// The language of a checkpoint: decoding ends at stop strings, constraints are enforced.
#[test]
fn the_engine_s_view_of_a_checkpoint() {
    let assets = TextAssets::open(support::smollm2()).expect("scripts/setup brings the file");
    let language = assets.language().expect("loads");
    assert_eq!(language.vocab(), 49152);
    let prompt = language.encode("The capital of France is").expect("encodes");
    let mut decoder = language.text_decoder(&prompt, &["Rome".to_owned()]);
    let pieces: Vec<_> = language
        .encode(" Paris, not Rome!")
        .expect("encodes")
        .into_iter()
        .map(|id| decoder.push(id))
        .collect();
    assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), " Paris, not ");
    assert_eq!(pieces.last().and_then(|piece| piece.stop.clone()), Some("Rome".to_owned()));
    let mut matcher = language.matcher(&Constraint::Regex("yes|no".to_owned())).expect("compiles");
    let mut mask = videosdgx_text::TokenMask::new(language.vocab());
    matcher.allowed(&mut mask).expect("goes on");
    let allowed: Vec<Vec<u8>> =
        (0..49152).filter(|id| mask.allows(*id)).map(|id| language.token_bytes(id)).collect();
    assert!(allowed.contains(&b"yes".to_vec()) && allowed.contains(&b"n".to_vec()), "{allowed:?}");
    assert!(allowed.iter().all(|bytes| b"yes".starts_with(bytes) || b"no".starts_with(bytes)), "{allowed:?}");
    let yes = language.encode("yes").expect("encodes")[0];
    assert_eq!(matcher.accept(yes), Ok(true));
    assert!(language.matcher(&Constraint::Regex("(".to_owned())).is_err());
}

/// Every source of end tokens counts: an answer that ends its turn with the tokenizer's own end token has ended.
#[test]
fn end_tokens_are_those_of_all_files() {
    let tokenizer = String::from_utf8(support::read("tokenizer.json")).expect("UTF-8");
    let end = support::qwen().token_id("<|im_end|>").expect("is there");
    let with = |config: &str, generation: &str, tokenizer_config: &str, map: &str| {
        let folder = folder(&[
            ("config.json", config),
            ("generation_config.json", generation),
            ("tokenizer_config.json", tokenizer_config),
            ("special_tokens_map.json", map),
            ("tokenizer.json", &tokenizer),
        ]);
        open(&folder).expect("opens").end_tokens().to_vec()
    };
    let bare = r#"{"model_type": "qwen3", "max_position_embeddings": 4096}"#;
    let nested = r#"{"model_type": "qwen3_vl", "eos_token_id": 2, "text_config": {"max_position_embeddings": 8, "eos_token_id": [3, 2]}}"#;
    let own = r#"{"eos_token": "<|im_end|>"}"#;
    assert_eq!(with(CONFIG, "{}", own, "{}"), [1, end]);
    assert_eq!(with(CONFIG, r#"{"eos_token_id": 1}"#, own, "{}"), [1, end]);
    assert_eq!(with(CONFIG, r#"{"eos_token_id": [4, 1]}"#, "{}", "{}"), [4, 1]);
    assert_eq!(with(bare, "{}", own, "{}"), [end]);
    assert_eq!(with(bare, "{}", "{}", own), [end]);
    assert_eq!(with(nested, "{}", "{}", "{}"), [2, 3]);
    assert!(with(bare, "{}", "{}", "{}").is_empty());
}

#[test]
fn special_tokens_are_read_from_the_map_where_the_tokenizers_configuration_has_none() {
    let tokenizer = String::from_utf8(support::read("tokenizer.json")).expect("UTF-8");
    let template = "{{ bos_token }}{{ eos_token }}{{ pad_token }}";
    for (config, map, expected) in [
        (
            "{}",
            r#"{"bos_token": {"content": "<|endoftext|>"}, "eos_token": "<|im_end|>"}"#,
            "<|endoftext|><|im_end|>",
        ),
        (
            r#"{"eos_token": "<|endoftext|>", "pad_token": null}"#,
            r#"{"eos_token": "<|im_end|>", "pad_token": "<p>"}"#,
            "<|endoftext|><p>",
        ),
    ] {
        let folder = folder(&[
            ("config.json", CONFIG),
            ("tokenizer_config.json", config),
            ("special_tokens_map.json", map),
            ("tokenizer.json", &tokenizer),
            ("chat_template.jinja", template),
        ]);
        let assets = open(&folder).expect("opens");
        let template = assets.template().expect("valid").expect("there");
        let messages = vec![json!({"role": "user", "content": "hi"})];
        let rendered = template.render(&TemplateInput { messages, ..TemplateInput::default() });
        assert_eq!(rendered.expect("renders").text(), expected);
    }
}

/// A GGUF file beside the original model's configuration, and files that only stand in for others.
#[test]
fn a_gguf_file_is_found_and_pointers_are_named() {
    let folder = folder(&[("config.json", CONFIG)]);
    std::os::unix::fs::symlink(support::smollm2(), folder.path().join("m.gguf")).expect("links");
    assert_eq!(open(&folder).expect("opens").context_length(), 8192, "that of the GGUF file");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 1234567\n";
    let cloned = self::folder(&[("config.json", CONFIG), ("tokenizer.json", pointer)]);
    let error = open(&cloned).expect("opens").tokenizer().expect_err("a pointer").to_string();
    assert!(error.contains("is a Git LFS pointer"), "{error}");
}
