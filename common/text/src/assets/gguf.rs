//! Assets of a GGUF file.

use std::path::{Path, PathBuf};

use videosdgx_gguf::{Gguf, GgufError};

use super::{AssetsError, Facts, GenerationDefaults, Globals, Source, Templates};
use crate::{GgufVocabulary, Tokenizer};

/// Texts of tokens that end an output in addition to those in the metadata (end-of-generation tokens of llama.cpp).
const END_TOKENS: [&str; 9] = [
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<|end|>",
    "<|user|>",
    "<|observation|>",
    "</s>",
];

/// `path` if it is a GGUF file, or the GGUF file of a folder (see [`videosdgx_gguf::file_in`]).
pub(super) fn file_of(path: &Path) -> Result<Option<PathBuf>, AssetsError> {
    let is_gguf =
        |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let metadata = std::fs::metadata(path).map_err(|error| AssetsError::io(path, error))?;
    if metadata.is_file() {
        return if is_gguf(path) {
            Ok(Some(path.to_owned()))
        } else {
            Err(AssetsError::invalid(path, "is neither a folder nor a GGUF file"))
        };
    }
    videosdgx_gguf::file_in(path).map_err(|error| unusable(path, error))
}

/// The error about `path`, or about the file that `error` names.
fn unusable(path: &Path, error: GgufError) -> AssetsError {
    match error {
        GgufError::Io { .. } => {
            AssetsError::Unreadable { path: path.to_owned(), source: std::sync::Arc::new(error) }
        }
        GgufError::Invalid { file, reason } => AssetsError::invalid(file, reason),
    }
}

pub(super) fn open(path: &Path) -> Result<(Source, Facts), AssetsError> {
    let file = Gguf::open(path).map_err(|error| unusable(path, error))?;
    let family = file.architecture().unwrap_or_default().to_owned();
    let key = file.model_key("context_length");
    let context_length = file
        .u64(&key)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length > 0)
        .ok_or_else(|| AssetsError::invalid(path, file.missing_key(&key, "a positive integer")))?;
    let name = file.str("general.name").unwrap_or(&family).to_owned();
    let facts = Facts {
        name,
        context_length,
        end_tokens: end_tokens(&file),
        defaults: GenerationDefaults {
            temperature: file.f32("general.sampling.temp"),
            top_p: file.f32("general.sampling.top_p"),
            top_k: file.u32("general.sampling.top_k"),
            min_p: file.f32("general.sampling.min_p"),
            repetition_penalty: file.f32("general.sampling.penalty_repeat"),
        },
        image_token: token_of(&file, "<|image_pad|>"),
        family,
    };
    Ok((Source::Gguf(Box::new(file)), facts))
}

pub(super) fn tokenizer(file: &Gguf) -> Result<Tokenizer, AssetsError> {
    let text = |key: &str| {
        file.str(key)
            .map(str::to_owned)
            .ok_or_else(|| AssetsError::invalid(file.path(), file.missing_key(key, "a text")))
    };
    let texts = |key: &str| {
        file.strings(key)
            .map(<[_]>::to_vec)
            .ok_or_else(|| AssetsError::invalid(file.path(), file.missing_key(key, "a list of texts")))
    };
    let vocabulary = GgufVocabulary {
        model: text("tokenizer.ggml.model")?,
        pre: file.str("tokenizer.ggml.pre").unwrap_or("default").to_owned(),
        tokens: texts("tokenizer.ggml.tokens")?,
        merges: file.strings("tokenizer.ggml.merges").unwrap_or_default().to_vec(),
        token_types: file.i32s("tokenizer.ggml.token_type").unwrap_or_default(),
        bos: file.u32("tokenizer.ggml.bos_token_id"),
        eos: file.u32("tokenizer.ggml.eos_token_id"),
        add_bos: file.bool("tokenizer.ggml.add_bos_token"),
    };
    Tokenizer::from_gguf(vocabulary).map_err(|error| AssetsError::invalid(file.path(), error))
}

/// Texts of special tokens that templates may use.
pub(super) fn globals(tokenizer: &Tokenizer) -> Globals {
    let mut globals = Globals::new();
    for (name, id) in [("bos_token", tokenizer.bos()), ("eos_token", tokenizer.eos())] {
        let text =
            id.and_then(|id| tokenizer.token_bytes(id)).and_then(|bytes| std::str::from_utf8(bytes).ok());
        globals.insert(name.to_owned(), text.unwrap_or_default().to_owned());
    }
    globals
}

pub(super) fn templates(file: &Gguf) -> Templates {
    let text = |key: &str| file.str(key).map(str::to_owned);
    Templates {
        file: file.path().to_owned(),
        main: text("tokenizer.chat_template"),
        tool_use: text("tokenizer.chat_template.tool_use"),
    }
}

fn end_tokens(file: &Gguf) -> Vec<u32> {
    let keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
    let mut ends: Vec<u32> = keys.iter().filter_map(|key| file.u32(key)).collect();
    ends.extend(
        END_TOKENS.iter().filter_map(|content| token_of(file, content)).filter(|id| is_control(file, *id)),
    );
    let mut unique = Vec::new();
    for id in ends {
        if !unique.contains(&id) {
            unique.push(id);
        }
    }
    unique
}

fn token_of(file: &Gguf, content: &str) -> Option<u32> {
    let tokens = file.strings("tokenizer.ggml.tokens")?;
    tokens.iter().position(|token| token == content).and_then(|id| u32::try_from(id).ok())
}

fn is_control(file: &Gguf, id: u32) -> bool {
    file.i32s("tokenizer.ggml.token_type").is_some_and(|types| types.get(id as usize) == Some(&3))
}
