//! Assets of a folder in Hugging Face's layout.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{AssetsError, Facts, GenerationDefaults, Globals, Source, Templates};
use crate::Tokenizer;

/// Maximum size of a configuration file.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Maximum size of `tokenizer.json`; the largest published ones have about 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// A folder whose configuration has been read.
pub(super) struct Folder {
    path: PathBuf,
    tokenizer_config: Value,
    /// `special_tokens_map.json`: older files have the special tokens only here.
    special_tokens: Value,
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
        .or_else(|| default_context(&family))
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length > 0)
        .ok_or_else(|| {
            AssetsError::invalid(&config_path, "max_position_embeddings is not a positive integer")
        })?;
    let special_tokens = read_json(&path.join("special_tokens_map.json"))?.unwrap_or(Value::Null);
    let mut end_tokens = Vec::new();
    for id in [&generation, &config, text].into_iter().flat_map(|config| ids(&config["eos_token_id"])) {
        if !end_tokens.contains(&id) {
            end_tokens.push(id);
        }
    }
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
    Ok((Source::Folder(Folder { path: path.to_owned(), tokenizer_config, special_tokens }), facts))
}

/// Transformers' default of `max_position_embeddings`, where published files leave it out.
fn default_context(family: &str) -> Option<u64> {
    matches!(family, "gemma3" | "gemma3_text").then_some(131_072)
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

    /// Texts of special tokens that templates may use.
    pub(super) fn globals(&self) -> Globals {
        let names =
            ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"];
        names.into_iter().filter_map(|name| self.special(name).map(|text| (name.to_owned(), text))).collect()
    }

    /// The templates: files of their own, or values of `tokenizer_config.json`.
    pub(super) fn templates(&self) -> Result<Templates, AssetsError> {
        let path = self.path.join("chat_template.jinja");
        let additional = Self::template_file(&self.path.join("additional_chat_templates/tool_use.jinja"))?;
        if let Some(source) = Self::template_file(&path)? {
            return Ok(Templates { file: path, main: Some(source), tool_use: additional });
        }
        // Older layouts of vision models have a separate file.
        let path = self.path.join("chat_template.json");
        let (file, value) = match read_json(&path)? {
            Some(json) => (path, json["chat_template"].clone()),
            None => (self.path.join("tokenizer_config.json"), self.tokenizer_config["chat_template"].clone()),
        };
        let main = template_of(&value, "default").or_else(|| first_template(&value));
        Ok(Templates { file, main, tool_use: additional.or_else(|| template_of(&value, "tool_use")) })
    }

    fn template_file(path: &Path) -> Result<Option<String>, AssetsError> {
        let Some(bytes) = read(path, MAX_CONFIG_BYTES)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|error| AssetsError::invalid(path, error))
    }

    /// The text of a special token, given as a string or as an object in `tokenizer_config.json`, else in
    /// `special_tokens_map.json`.
    fn special(&self, name: &str) -> Option<String> {
        [&self.tokenizer_config[name], &self.special_tokens[name]]
            .into_iter()
            .find_map(|value| value.as_str().or_else(|| value["content"].as_str()))
            .map(str::to_owned)
    }
}

/// The template with this name, of a list or an object of templates.
fn template_of(value: &Value, name: &str) -> Option<String> {
    let source = match value {
        Value::Array(named) => named.iter().find(|entry| entry["name"] == name)?.get("template"),
        Value::Object(named) => named.get(name),
        _ => None,
    };
    source.and_then(Value::as_str).map(str::to_owned)
}

/// The only template, or the first of several without a default.
fn first_template(value: &Value) -> Option<String> {
    match value {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => named.first()?["template"].as_str().map(str::to_owned),
        Value::Object(named) => named.values().find_map(Value::as_str).map(str::to_owned),
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
    let bytes = std::fs::read(path).map_err(|error| AssetsError::io(path, error))?;
    match videosdgx_gguf::lfs_pointer(&bytes) {
        Some(reason) => Err(AssetsError::invalid(path, reason)),
        None => Ok(Some(bytes)),
    }
}
