//! Everything about a checkpoint's language but its weights: from a folder in Hugging Face's layout, or from a GGUF file.

mod error;
mod folder;
mod gguf;
mod language;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use self::error::AssetsError;
pub use self::language::CheckpointLanguage;
use crate::{ChatTemplate, ConstraintCompiler, OutputFormat, Tokenizer};

/// Tokenizer, template, defaults and limits of a checkpoint. Clones share everything; the tokenizer, the template and the constraint
/// compiler are built when they are first asked for.
#[derive(Clone)]
pub struct TextAssets {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    source: Source,
    facts: Facts,
    tokenizer: OnceLock<Result<Tokenizer, AssetsError>>,
    template: OnceLock<Result<Option<ChatTemplate>, AssetsError>>,
    constraints: OnceLock<Result<ConstraintCompiler, AssetsError>>,
}

/// Where the parts come from.
enum Source {
    Folder(folder::Folder),
    Gguf(Box<videosdgx_gguf::Gguf>),
}

/// What is read at once: small files only.
#[derive(Debug, Clone, Default, PartialEq)]
struct Facts {
    family: String,
    name: String,
    context_length: usize,
    end_tokens: Vec<u32>,
    defaults: GenerationDefaults,
    image_token: Option<u32>,
}

/// What the checkpoint recommends; `None`: it says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationDefaults {
    /// 0 where it says not to sample.
    pub temperature: Option<f32>,
    /// Only the likeliest that together reach this probability.
    pub top_p: Option<f32>,
    /// Only the `k` likeliest.
    pub top_k: Option<u32>,
    /// Only those at least this fraction as likely as the likeliest.
    pub min_p: Option<f32>,
    /// Divides the logits of tokens that were seen.
    pub repetition_penalty: Option<f32>,
}

impl std::fmt::Debug for TextAssets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextAssets")
            .field("path", &self.inner.path)
            .field("facts", &self.inner.facts)
            .finish_non_exhaustive()
    }
}

impl TextAssets {
    /// Opens the folder or the GGUF file at `path` (a folder that holds one GGUF file and no `config.json` counts as that file); reads small files
    /// and headers only.
    ///
    /// # Errors
    /// [`AssetsError::Missing`] or [`AssetsError::Invalid`] with the file's name.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AssetsError> {
        let path = path.as_ref();
        let (source, facts) = match gguf::file_of(path)? {
            Some(file) => gguf::open(&file)?,
            None => folder::open(path)?,
        };
        let inner = Inner {
            path: path.to_owned(),
            source,
            facts,
            tokenizer: OnceLock::new(),
            template: OnceLock::new(),
            constraints: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// As [`TextAssets::open`]; the same each time.
    pub fn tokenizer(&self) -> Result<&Tokenizer, AssetsError> {
        let load = || match &self.inner.source {
            Source::Folder(folder) => folder.tokenizer(),
            Source::Gguf(file) => gguf::tokenizer(file),
        };
        self.inner.tokenizer.get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// The chat template; none: a checkpoint without one completes texts only.
    ///
    /// # Errors
    /// As [`TextAssets::open`].
    pub fn template(&self) -> Result<Option<&ChatTemplate>, AssetsError> {
        let load = || {
            let tokenizer = self.tokenizer()?;
            let (file, source, globals) = match &self.inner.source {
                Source::Folder(folder) => folder.template()?,
                Source::Gguf(file) => gguf::template(file, tokenizer),
            };
            let Some(source) = source else { return Ok(None) };
            ChatTemplate::new(&source, globals, Some(tokenizer.clone()))
                .map(Some)
                .map_err(|error| AssetsError::invalid(file, error))
        };
        self.inner.template.get_or_init(load).as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Compiles constraints for this tokenizer.
    ///
    /// # Errors
    /// As [`TextAssets::open`], for a vocabulary that cannot be constrained too.
    pub fn constraints(&self) -> Result<&ConstraintCompiler, AssetsError> {
        let load = || {
            ConstraintCompiler::new(self.tokenizer()?, self.end_tokens())
                .map_err(|error| AssetsError::invalid(&self.inner.path, error))
        };
        self.inner.constraints.get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// How the model writes calls and thoughts, by its template.
    ///
    /// # Errors
    /// As [`TextAssets::template`].
    pub fn output_format(&self) -> Result<OutputFormat, AssetsError> {
        Ok(self.template()?.map(|template| OutputFormat::of_template(template.source())).unwrap_or_default())
    }

    /// Tokens that end an output, all of them (GLM has three).
    #[must_use]
    pub fn end_tokens(&self) -> &[u32] {
        &self.inner.facts.end_tokens
    }

    /// What the checkpoint recommends for sampling.
    #[must_use]
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.inner.facts.defaults
    }

    /// Most tokens of prompt and output together.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.inner.facts.context_length
    }

    /// The architecture: `model_type` of `config.json` (`qwen3_vl`), `general.architecture` of a GGUF file (`llama`).
    #[must_use]
    pub fn family(&self) -> &str {
        &self.inner.facts.family
    }

    /// The checkpoint's name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.facts.name
    }

    /// The token that stands for a part of a picture, in models that take pictures.
    #[must_use]
    pub fn image_token(&self) -> Option<u32> {
        self.inner.facts.image_token
    }

    /// The folder or file that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

/// Texts of special tokens by the names that templates know.
type Globals = BTreeMap<String, String>;
