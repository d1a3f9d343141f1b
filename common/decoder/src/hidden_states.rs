//! A decoder as a text encoder: the hidden states of a prompt after every layer, without logits.

use tch::{Kind, Tensor};
use videosdgx_decoder_api::BLOCK_TOKENS;
use videosdgx_tensor::{
    CheckpointError, KvCache, KvCacheShape, PagedSegment, TensorError, Weights, add_rms_norm,
    catch_libtorch_errors, rms_norm,
};

use crate::attention::cache_shape;
use crate::load::{unused, weights};
use crate::positions::Position;
use crate::stack::{Stack, scaled};
use crate::{DecoderConfig, LoadError, LoadOptions, Source};

/// The layers of a loaded decoder, which give all hidden states of a prompt; made by [`Source::load_hidden_states`].
///
/// It keeps no KV cache, and the token embeddings stay on the disk: a prompt needs few of their rows.
pub struct HiddenStates {
    config: DecoderConfig,
    weights: Weights,
    /// Name of the token embedding.
    embedding: String,
    stack: Stack,
    /// Of the keys and values of one layer, which is all that is kept while computing.
    cache: KvCacheShape,
    cache_kind: Kind,
    unused: Vec<String>,
    weight_bytes: u64,
}

impl Source {
    /// Loads the layers only, for [`HiddenStates`].
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn load_hidden_states(self, options: &LoadOptions) -> Result<HiddenStates, LoadError> {
        catch_libtorch_errors(|| {
            let Self { config, checkpoint, names, .. } = self;
            let weights = weights(checkpoint, options);
            let embedding = format!("{}.weight", names.embedding());
            weights.require(&embedding, &[config.vocab, config.hidden])?;
            let stack = Stack::load(&weights, &config, names)?;
            weights.finish_weight_cache();
            let mut unused = unused(&weights, &config, names);
            unused.retain(|name| name.strip_suffix(".weight") != Some(names.head()));
            Ok(HiddenStates {
                cache: KvCacheShape { layers: 1, ..cache_shape(&config) },
                cache_kind: options.cache_kind,
                unused,
                weight_bytes: weights.resident_bytes(),
                config,
                weights,
                embedding,
                stack,
            })
        })
    }
}

impl HiddenStates {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Bytes of all weights in memory.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Tensors of the checkpoint that are neither used nor known to be redundant, sorted.
    #[must_use]
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Number of hidden states of a token: the embedding and one for each layer.
    #[must_use]
    pub fn states(&self) -> i64 {
        self.config.layers.len() as i64 + 1
    }

    /// All hidden states of `tokens`, the first of which is at position `first` → `[tokens, hidden, layers + 1]` in the
    /// compute type: the token embedding, the output of each layer but the last, and that of the last one after the
    /// final norm, as transformers' `output_hidden_states` gives them.
    ///
    /// A prompt that is padded on the left begins at the number of its padding tokens. Masked padding has no influence
    /// on the states of the other tokens, so it is neither given nor computed.
    ///
    /// # Errors
    /// [`TensorError::Checkpoint`] for a token outside the vocabulary, [`TensorError::Libtorch`] for more tokens than
    /// the model's context, [`TensorError::OutOfMemory`].
    pub fn compute(&self, tokens: &[i64], first: usize) -> Result<Tensor, TensorError> {
        let end = first.saturating_add(tokens.len());
        if tokens.is_empty() || end > self.config.max_context {
            let limit = self.config.max_context;
            return Err(TensorError::Libtorch(format!("tokens {first} to {end} of a context of {limit}")));
        }
        if let Some(token) = tokens.iter().find(|token| !(0..self.config.vocab).contains(token)) {
            let reason = format!("has no token {token}, its vocabulary has {}", self.config.vocab);
            return Err(CheckpointError::invalid(self.weights.checkpoint().folder(), reason).into());
        }
        let embedded = self.weights.rows(&self.embedding, tokens)?;
        catch_libtorch_errors(|| self.layers(&embedded, first))
    }

    /// As [`HiddenStates::compute`], from the token embeddings `[tokens, hidden]`.
    fn layers(&self, embedded: &Tensor, first: usize) -> Result<Tensor, TensorError> {
        let (kind, eps) = (embedded.kind(), self.config.norm_eps);
        let len = usize::try_from(embedded.size()[0]).unwrap_or(0);
        let mut cache = KvCache::new(self.cache, self.cache_kind, self.weights.device())?;
        let blocks: Vec<u32> = (0..).take(len.div_ceil(BLOCK_TOKENS)).collect();
        cache.resize(blocks.len())?;
        let positions: Vec<Position> = (first..first + len).map(Position::text).collect();
        let step = self.stack.step(&positions, vec![PagedSegment { start: 0, len, blocks: &blocks }]);

        let size = [len as i64, self.config.hidden, self.states()];
        let states = Tensor::f_empty(size, (kind, embedded.device()))?;
        // As in `TextModel`, the residual stream stays in f32.
        let mut hidden = scaled(embedded, self.config.block.embedding_scale);
        states.select(-1, 0).copy_(&hidden);
        let last = self.stack.layers.len() as i64;
        for (index, layer) in (1i64..).zip(&self.stack.layers) {
            let normed = rms_norm(&hidden, &layer.input_norm, eps);
            // Each layer overwrites the keys and values of the one before it.
            let attended = layer.attend(&normed.to_kind(kind), &step, 0, &mut cache).to_kind(Kind::Float);
            let normed = add_rms_norm(&mut hidden, &attended, &layer.mlp_norm, eps);
            let _sum = hidden.g_add_(&layer.feed_forward(&normed.to_kind(kind)));
            if index == last {
                hidden = rms_norm(&hidden, &self.stack.norm, eps);
            }
            states.select(-1, index).copy_(&hidden);
        }
        Ok(states)
    }
}
