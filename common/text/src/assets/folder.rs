//! Assets of a folder in Hugging Face's layout.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{AssetsError, Facts, GenerationDefaults, Globals, Source};
use crate::Tokenizer;

/// Maximum size of a configuration file.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Maximum size of `tokenizer.json`; the largest published ones have about 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// A folder whose configuration has been read.
pub(super) struct Folder {
    path: PathBuf,
    tokenizer_config: Value,
}

pub(super) fn open(path: &Path) -> Result<(Source, Facts), AssetsError> {
    let config_path = path.join("config.json");
    let config =
        read_json(&config_path)?.ok_or_else(|| AssetsError::Missing { path: config_path.clone() })?;
    let generation = read_json(&path.join("generation_config.json"))?.unwrap_or(Value::Null);
    let tokenizer_config = read_json(&path.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
    let family = config["model_type"].as_str().unwrap_or_default().to_owned();
    // Vision models nest the language model's configuration.
    let text = if config["text_config"].is_object() { &config["text_config"] } else { &config };
    let context_length = text["max_position_embeddings"]
        .as_u64()
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length > 0)
        .ok_or_else(|| {
            AssetsError::invalid(&config_path, "max_position_embeddings is not a positive integer")
        })?;
    let end_tokens = [&generation, &config, text]
        .into_iter()
        .map(|config| ids(&config["eos_token_id"]))
        .find(|ids| !ids.is_empty())
        .unwrap_or_default();
    let name = path
        .canonicalize()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let facts = Facts {
        name: name.unwrap_or_else(|| family.clone()),
        family,
        context_length,
        end_tokens,
        defaults: defaults(&generation),
        image_token: config["image_token_id"].as_u64().and_then(|id| u32::try_from(id).ok()),
    };
    Ok((Source::Folder(Folder { path: path.to_owned(), tokenizer_config }), facts))
}

impl Folder {
    pub(super) fn tokenizer(&self) -> Result<Tokenizer, AssetsError> {
        let path = self.path.join("tokenizer.json");
        let json =
            read(&path, MAX_TOKENIZER_BYTES)?.ok_or_else(|| AssetsError::Missing { path: path.clone() })?;
        let (bos, eos) = (self.special("bos_token"), self.special("eos_token"));
        Tokenizer::from_json(&json, bos.as_deref(), eos.as_deref())
            .map_err(|error| AssetsError::invalid(&path, error))
    }

    /// The template's file, its source, and the texts of special tokens that it may use.
    pub(super) fn template(&self) -> Result<(PathBuf, Option<String>, Globals), AssetsError> {
        let mut globals = Globals::new();
        for name in
            ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"]
        {
            globals.extend(self.special(name).map(|text| (name.to_owned(), text)));
        }
        let path = self.path.join("chat_template.jinja");
        if let Some(bytes) = read(&path, MAX_CONFIG_BYTES)? {
            let source = String::from_utf8(bytes).map_err(|error| AssetsError::invalid(&path, error))?;
            return Ok((path, Some(source), globals));
        }
        // Older layouts of vision models have a separate file.
        let path = self.path.join("chat_template.json");
        if let Some(json) = read_json(&path)? {
            let source = template_of(&json["chat_template"]);
            return Ok((path, source, globals));
        }
        Ok((
            self.path.join("tokenizer_config.json"),
            template_of(&self.tokenizer_config["chat_template"]),
            globals,
        ))
    }

    /// The text of a special token, given as a string or as an object.
    fn special(&self, name: &str) -> Option<String> {
        let value = &self.tokenizer_config[name];
        value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
    }
}

/// A template, or the one named `default` of several.
fn template_of(value: &Value) -> Option<String> {
    match value {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default").or_else(|| named.first());
            default.and_then(|entry| entry["template"].as_str()).map(str::to_owned)
        }
        Value::Object(named) => named.get("default").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    }
}

fn defaults(generation: &Value) -> GenerationDefaults {
    let number = |key: &str| generation[key].as_f64().map(|value| value as f32);
    let greedy = generation["do_sample"] == Value::Bool(false);
    GenerationDefaults {
        temperature: if greedy { Some(0.0) } else { number("temperature") },
        top_p: number("top_p"),
        top_k: generation["top_k"].as_u64().and_then(|k| u32::try_from(k).ok()),
        min_p: number("min_p"),
        repetition_penalty: number("repetition_penalty"),
    }
}

/// Parses one id or a list of ids.
fn ids(value: &Value) -> Vec<u32> {
    let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    values.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}

fn read_json(path: &Path) -> Result<Option<Value>, AssetsError> {
    let Some(bytes) = read(path, MAX_CONFIG_BYTES)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| AssetsError::invalid(path, error))
}

/// The file's content; `None` when it does not exist.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, AssetsError> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AssetsError::io(path, error)),
    };
    if length > limit {
        return Err(AssetsError::invalid(path, format!("{length} bytes exceed the limit of {limit}")));
    }
    std::fs::read(path).map(Some).map_err(|error| AssetsError::io(path, error))
}
