//! Tokenizer, chat template and defaults of a checkpoint, read from a folder in Hugging Face's layout or from a GGUF file.

mod error;
mod folder;
mod gguf;
mod language;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use self::error::AssetsError;
pub use self::language::CheckpointLanguage;
use crate::{ChatTemplate, ConstraintCompiler, OutputFormat, Tokenizer, ToolFormat};

/// Tokenizer, chat template, defaults and limits of a checkpoint, without its weights.
///
/// Clones share everything. Tokenizer, template and constraint compiler are built on first use.
///
/// ```no_run
/// use videosdgx_text::{AllowSpecial, TextAssets};
///
/// let assets = TextAssets::open("models/smollm2-135m")?;
/// let tokens = assets.tokenizer()?.encode("Hello", AllowSpecial::None).expect("short text");
/// println!("{} tokens of at most {}", tokens.len(), assets.context_length());
/// # Ok::<(), videosdgx_text::AssetsError>(())
/// ```
#[derive(Clone)]
pub struct TextAssets {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    source: Source,
    facts: Facts,
    tokenizer: OnceLock<Result<Tokenizer, AssetsError>>,
    end_tokens: OnceLock<Vec<u32>>,
    template: OnceLock<Result<Option<ChatTemplate>, AssetsError>>,
    constraints: OnceLock<Result<ConstraintCompiler, AssetsError>>,
}

/// Where the assets are read from.
enum Source {
    Folder(folder::Folder),
    Gguf(Box<videosdgx_gguf::Gguf>),
}

/// Values that are read on opening, from small files and headers.
#[derive(Debug, Clone, Default, PartialEq)]
struct Facts {
    family: String,
    name: String,
    context_length: usize,
    /// Of the configuration; the tokenizer has one, too.
    end_tokens: Vec<u32>,
    defaults: GenerationDefaults,
    image_token: Option<u32>,
}

/// Sampling parameters that the checkpoint recommends; `None` where it recommends nothing. See
/// [`SamplingParams`](crate::SamplingParams).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Temperature; 0 when the checkpoint disables sampling.
    pub temperature: Option<f32>,
    /// Cumulative probability of the tokens that may be sampled.
    pub top_p: Option<f32>,
    /// Number of most likely tokens that may be sampled.
    pub top_k: Option<u32>,
    /// Minimum probability relative to the most likely token.
    pub min_p: Option<f32>,
    /// Penalty for tokens that occurred before.
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
    /// Opens the folder or GGUF file at `path`; a folder with a GGUF file (see [`videosdgx_gguf::file_in`]) is treated as that file. Reads only
    /// small files and headers.
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
            end_tokens: OnceLock::new(),
            template: OnceLock::new(),
            constraints: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// As [`TextAssets::open`]; repeated calls return the same error.
    pub fn tokenizer(&self) -> Result<&Tokenizer, AssetsError> {
        let load = || match &self.inner.source {
            Source::Folder(folder) => folder.tokenizer(),
            Source::Gguf(file) => gguf::tokenizer(file),
        };
        self.inner.tokenizer.get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// The chat template, if the checkpoint has one; without it, only text completion is possible.
    ///
    /// # Errors
    /// As [`TextAssets::open`].
    pub fn template(&self) -> Result<Option<&ChatTemplate>, AssetsError> {
        let load = || {
            let tokenizer = self.tokenizer()?;
            let Templates { file, main, tool_use } = self.templates()?;
            let Some(main) = main else { return Ok(None) };
            let globals = match &self.inner.source {
                Source::Folder(folder) => folder.globals(),
                Source::Gguf(_) => gguf::globals(tokenizer),
            };
            let template = ChatTemplate::new(&main, globals, Some(tokenizer.clone()));
            let template = match tool_use {
                Some(tool_use) => template.and_then(|template| template.with_tool_use(&tool_use)),
                None => template,
            };
            template.map(Some).map_err(|error| AssetsError::invalid(file, error))
        };
        self.inner.template.get_or_init(load).as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    fn templates(&self) -> Result<Templates, AssetsError> {
        match &self.inner.source {
            Source::Folder(folder) => folder.templates(),
            Source::Gguf(file) => Ok(gguf::templates(file)),
        }
    }

    /// The constraint compiler for this tokenizer.
    ///
    /// # Errors
    /// As [`TextAssets::open`]; also when the vocabulary has no end token.
    pub fn constraints(&self) -> Result<&ConstraintCompiler, AssetsError> {
        let load = || {
            ConstraintCompiler::new(self.tokenizer()?, self.end_tokens())
                .map_err(|error| AssetsError::invalid(&self.inner.path, error))
        };
        self.inner.constraints.get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// The format of the model's tool calls and reasoning, detected from its template.
    ///
    /// # Errors
    /// As [`TextAssets::template`].
    pub fn output_format(&self) -> Result<OutputFormat, AssetsError> {
        Ok(self.template()?.map(ChatTemplate::output_format).unwrap_or_default())
    }

    /// The format of tool calls, and whether it is generic because the template has no other; `None` without a template. Reads the
    /// template only, not the tokenizer.
    ///
    /// # Errors
    /// As [`TextAssets::open`].
    pub fn tool_format(&self) -> Result<Option<(ToolFormat, bool)>, AssetsError> {
        let Templates { main, tool_use, .. } = self.templates()?;
        Ok(tool_use.or(main).map(|source| {
            let format = OutputFormat::of_template(&source).tools;
            (format.unwrap_or(ToolFormat::Hermes), format.is_none())
        }))
    }

    /// All tokens that end an output (GLM has three): those of the generation configuration, of the model's configuration, and
    /// the tokenizer's own, which in many checkpoints is the only one that ends a turn. Builds the tokenizer.
    #[must_use]
    pub fn end_tokens(&self) -> &[u32] {
        self.inner.end_tokens.get_or_init(|| {
            let mut ends = self.inner.facts.end_tokens.clone();
            let own = self.tokenizer().ok().and_then(Tokenizer::eos);
            ends.extend(own.filter(|own| !self.inner.facts.end_tokens.contains(own)));
            ends
        })
    }

    /// Recommended sampling parameters.
    #[must_use]
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.inner.facts.defaults
    }

    /// Maximum number of tokens of prompt and output together.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.inner.facts.context_length
    }

    /// The architecture: `model_type` of `config.json` (`qwen3_vl`), `general.architecture` of a GGUF file (`llama`).
    #[must_use]
    pub fn family(&self) -> &str {
        &self.inner.facts.family
    }

    /// Display name of the checkpoint.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.facts.name
    }

    /// The placeholder token for a part of an image, in models that accept images.
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

/// Texts of special tokens by their names in templates.
type Globals = BTreeMap<String, String>;

/// The sources of a checkpoint's templates, and the file of the first.
struct Templates {
    file: PathBuf,
    main: Option<String>,
    /// The one named `tool_use`, for conversations with tools.
    tool_use: Option<String>,
}
