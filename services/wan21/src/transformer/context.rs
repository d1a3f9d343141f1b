//! Keys and values of prompts and image, computed once per generation.

use videosdgx_tensor::{Device, Kind, Tensor};

use super::WanTransformer;
use super::attention::CrossMemory;

/// Tokens of a prompt, including its padding.
pub(super) const TEXT_TOKENS: i64 = 512;

/// Keys and values of one or more prompts (and an image) for every block.
///
/// The reference pads a prompt with zeros to 512 tokens and attends to the padding, too. All padding tokens have the same
/// key and value, and softmax over `n` equal scores `s` equals softmax over one score `s + ln n`: one token represents
/// them.
pub struct Context {
    memories: Vec<CrossMemory>,
    mask: Option<Tensor>,
    prompts: i64,
}

impl Context {
    /// Number of prompts: the batch size of the prediction.
    pub fn prompts(&self) -> i64 {
        self.prompts
    }

    pub(super) fn memory(&self, block: usize) -> &CrossMemory {
        &self.memories[block]
    }

    /// f32 `[prompts, 1, 1, tokens]`, added to the scores.
    pub(super) fn mask(&self) -> Option<&Tensor> {
        self.mask.as_ref()
    }
}

impl WanTransformer {
    /// Computes the context of `prompts` (at least one text embedding `[tokens ≤ 512, text_dim]` without padding) and, for
    /// image to video, `image` `[1, tokens, image_dim]`.
    pub fn context(&self, prompts: &[&Tensor], image: Option<&Tensor>) -> Context {
        let device = self.tables.device();
        let longest = prompts.iter().map(|prompt| prompt.size()[0]).max().unwrap_or(0);
        // One more for the token that represents the padding.
        let tokens = (longest + 1).min(TEXT_TOKENS);
        let text = Tensor::zeros([prompts.len() as i64, tokens, self.config.text_dim], (self.kind, device));
        let mask = Tensor::zeros([prompts.len() as i64, 1, 1, tokens], (Kind::Float, Device::Cpu));
        for (index, prompt) in prompts.iter().enumerate() {
            let length = prompt.size()[0];
            text.select(0, index as i64).narrow(0, 0, length).copy_(prompt);
            if length < tokens {
                let row = mask.select(0, index as i64).view([tokens]);
                let _ = row.narrow(0, length, tokens - length).fill_(f64::NEG_INFINITY);
                let _ = row.narrow(0, length, 1).fill_(((TEXT_TOKENS - length) as f64).ln());
            }
        }
        let text = self.text.forward(&text);
        let image = image
            .zip(self.image.as_ref())
            .map(|(image, embedder)| embedder.forward(&image.to_kind(self.kind).to_device(device)));
        let memories =
            self.blocks.iter().map(|block| block.cross_attention.memory(&text, image.as_ref())).collect();
        let short = prompts.iter().any(|prompt| prompt.size()[0] < TEXT_TOKENS);
        Context { memories, mask: short.then(|| mask.to_device(device)), prompts: prompts.len() as i64 }
    }
}
