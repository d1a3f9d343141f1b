//! Prompts for LTX-2: all hidden states of Gemma 3, as diffusers' `LTX2Pipeline` gives them to the text connectors.

use std::path::Path;

use videosdgx_decoder::{HiddenStates, LoadError, LoadOptions, MemoryEstimate, Source};
use videosdgx_tensor::{CheckpointError, Device, Kind, Quantization, TensorError};

use super::clean::is_space;
use super::{EncodedPrompt, PromptEncoder, PromptTokenizer, tokenizer_failed};

/// Number of tokens that a prompt is truncated or padded to by default; includes the start token.
pub const GEMMA_MAX_TOKENS: usize = 1024;

/// Tokenizer and Gemma 3 encoder of a checkpoint.
///
/// The reference pads a prompt on the left to a fixed length and encodes all of it. The states of padding are masked out
/// or replaced by the connectors, and have no influence on the others: only the prompt itself is computed and returned,
/// at the positions that it has after the padding. Its embedding is `[tokens, hidden · (layers + 1)]`: for each of the
/// `hidden` channels its value in all states, of which the first is the token embedding and the last is normalised.
pub struct GemmaPromptEncoder {
    tokenizer: PromptTokenizer,
    encoder: HiddenStates,
    max_tokens: usize,
}

impl GemmaPromptEncoder {
    /// Loads `tokenizer/` and `text_encoder/` of a checkpoint folder. `max_tokens` is the length that prompts are
    /// truncated and padded to: [`GEMMA_MAX_TOKENS`] unless the checkpoint was trained otherwise.
    ///
    /// # Errors
    /// `Missing` or `Invalid` naming the file; `OutOfMemory`.
    pub fn load(
        checkpoint: &Path,
        max_tokens: usize,
        device: Device,
        kind: Kind,
        quantization: Quantization,
    ) -> Result<Self, TensorError> {
        let tokenizer = PromptTokenizer::open(&checkpoint.join("tokenizer"), max_tokens)?;
        let source = open(checkpoint, max_tokens)?;
        let options = LoadOptions::new(device, kind, quantization);
        let encoder = source.load_hidden_states(&options).map_err(load_failed)?;
        Ok(Self { tokenizer, encoder, max_tokens })
    }

    /// Bytes for loading and for encoding prompts of `max_tokens` tokens, from headers and configuration; arguments as
    /// for [`GemmaPromptEncoder::load`].
    ///
    /// # Errors
    /// `Missing` or `Invalid` naming the file.
    pub fn memory(
        checkpoint: &Path,
        max_tokens: usize,
        device: Device,
        kind: Kind,
        quantization: Quantization,
    ) -> Result<MemoryEstimate, TensorError> {
        let options = LoadOptions::new(device, kind, quantization);
        Ok(open(checkpoint, max_tokens)?.hidden_states_memory(&options, max_tokens as u64))
    }

    /// Number of tokens of a padded prompt.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Channels of a hidden state.
    pub fn hidden(&self) -> i64 {
        self.encoder.config().hidden
    }

    /// Number of hidden states of a token: one more than the layers.
    pub fn states(&self) -> i64 {
        self.encoder.states()
    }
}

impl PromptEncoder for GemmaPromptEncoder {
    /// A prompt of the full length (385 MB with Gemma 3 12B in bf16) and a few short ones.
    const CACHE_BYTES: u64 = 512 << 20;

    /// Removes the white space around the prompt, as Python's `strip` does.
    fn prepare(prompt: &str) -> String {
        prompt.trim_matches(is_space).to_owned()
    }

    /// Encodes a prompt without white space around it.
    ///
    /// # Errors
    /// `Libtorch` when tokenising or computing fails; `Invalid` when the vocabularies of tokenizer and encoder differ;
    /// `OutOfMemory`.
    fn encode(&self, prepared: &str) -> Result<EncodedPrompt, TensorError> {
        let tokens = self.tokenizer.encode(prepared).map_err(tokenizer_failed)?;
        let padding = self.max_tokens.saturating_sub(tokens.ids.len());
        let states = self.encoder.compute(&tokens.ids, padding)?;
        let embedding = states.f_flatten(1, 2)?;
        Ok(EncodedPrompt { embedding, unknown_words: tokens.unknown_words, truncated: tokens.truncated })
    }

    fn resident_bytes(&self) -> u64 {
        self.encoder.weight_bytes()
    }
}

/// Opens the encoder, and checks that its context is long enough.
fn open(checkpoint: &Path, max_tokens: usize) -> Result<Source, TensorError> {
    let folder = checkpoint.join("text_encoder");
    let source = Source::open(&folder).map_err(load_failed)?;
    let context = source.config().max_context;
    if !(1..=context).contains(&max_tokens) {
        let reason = format!("has a context of {context} tokens, prompts have {max_tokens}");
        return Err(CheckpointError::invalid(folder, reason).into());
    }
    Ok(source)
}

fn load_failed(error: LoadError) -> TensorError {
    match error {
        LoadError::Tensor(error) => error,
        LoadError::Config { file, error } => CheckpointError::caused_by(&file, error).into(),
    }
}
