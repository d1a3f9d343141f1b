//! Implementation of [`Language`] by a checkpoint's assets.

use super::{AssetsError, TextAssets};
use crate::{
    AllowSpecial, Constraint, ConstraintCompiler, Detokenizer, Language, Matcher, ShowSpecial, TextDecoder,
    TextPiece, TokenMask, TokenMatcher, Tokenizer,
};

/// Loaded tokenizer and constraint compiler of a checkpoint. Clones share them.
#[derive(Debug, Clone)]
pub struct CheckpointLanguage {
    tokenizer: Tokenizer,
    constraints: ConstraintCompiler,
}

impl TextAssets {
    /// The [`Language`] of the checkpoint, for the engine.
    ///
    /// # Errors
    /// As [`TextAssets::tokenizer`] and [`TextAssets::constraints`].
    pub fn language(&self) -> Result<CheckpointLanguage, AssetsError> {
        Ok(CheckpointLanguage {
            tokenizer: self.tokenizer()?.clone(),
            constraints: self.constraints()?.clone(),
        })
    }
}

impl Language for CheckpointLanguage {
    fn vocab(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let mut ids = self.tokenizer.prompt_prefix().to_vec();
        ids.extend(self.tokenizer.encode(text, AllowSpecial::None).map_err(|error| error.to_string())?);
        Ok(ids)
    }

    fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.tokenizer.token_bytes(id).unwrap_or_default().to_vec()
    }

    fn text_decoder(&self, prompt: &[u32], stop: &[String]) -> Box<dyn TextDecoder> {
        let detokenizer = Detokenizer::new(&self.tokenizer, ShowSpecial::Skip, stop);
        let detokenizer = if prompt.is_empty() { detokenizer } else { detokenizer.following_text() };
        Box::new(StopDecoder { detokenizer, stop: stop.to_vec() })
    }

    fn matcher(&self, constraint: &Constraint) -> Result<Box<dyn TokenMatcher>, String> {
        let matcher = self.constraints.compile(constraint).map_err(|error| error.to_string())?;
        Ok(Box::new(GrammarMatcher { matcher }))
    }
}

struct StopDecoder {
    detokenizer: Detokenizer,
    stop: Vec<String>,
}

impl TextDecoder for StopDecoder {
    fn push(&mut self, id: u32) -> TextPiece {
        let text = self.detokenizer.push(id);
        TextPiece { text, stop: self.detokenizer.matched().and_then(|number| self.stop.get(number).cloned()) }
    }

    fn finish(&mut self) -> String {
        self.detokenizer.finish()
    }
}

struct GrammarMatcher {
    matcher: Matcher,
}

impl TokenMatcher for GrammarMatcher {
    fn allowed(&mut self, mask: &mut TokenMask) -> Result<(), String> {
        self.matcher.allowed(mask.words_mut()).map_err(|error| error.to_string())
    }

    fn accept(&mut self, id: u32) -> Result<bool, String> {
        self.matcher.accept(id).map_err(|error| error.to_string())?;
        Ok(self.matcher.is_finished())
    }
}
