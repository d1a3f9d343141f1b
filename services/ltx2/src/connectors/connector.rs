//! A transformer over the tokens of a prompt.

use videosdgx_tensor::{Device, Kind, Rope, Tensor, TensorError, Weights, rms_modulated};

use super::config::ConnectorConfig;
use crate::attention::SelfAttention;
use crate::feed_forward::FeedForward;
use crate::names::TensorList;
use crate::rotary::Rotary;

/// Epsilon of the norms (the class's default in the reference).
const EPS: f64 = 1e-6;

/// The connector of one stream (`LTX2ConnectorTransformer1d` of diffusers).
pub(super) struct Connector {
    /// `[registers, width]` in the compute type.
    registers: Tensor,
    blocks: Vec<(SelfAttention, FeedForward)>,
    rotary: Rotary,
    base_length: i64,
}

impl Connector {
    pub(super) fn load(
        weights: &Weights,
        config: ConnectorConfig,
        rotary: Rotary,
        base_length: i64,
    ) -> Result<Self, TensorError> {
        let width = config.width();
        let block = |index| {
            let weights = weights.at("transformer_blocks").at(index);
            Ok::<_, TensorError>((
                SelfAttention::load(&weights.at("attn1"), &config.attention())?,
                FeedForward::load(&weights.at("ff"), width, true)?,
            ))
        };
        Ok(Self {
            registers: weights.tensor("learnable_registers", &[config.registers, width])?,
            blocks: (0..config.layers).map(block).collect::<Result<_, _>>()?,
            rotary,
            base_length,
        })
    }

    pub(super) fn tensors(list: &mut TensorList, config: ConnectorConfig) {
        list.tensor("learnable_registers", &[config.registers, config.width()]);
        for index in 0..config.layers {
            list.within(&format!("transformer_blocks.{index}"), |list| {
                list.within("attn1", |list| config.attention().tensors(list));
                list.within("ff", |list| FeedForward::tensors(list, config.width(), true));
            });
        }
    }

    /// `tokens` `[1, tokens, width]` → `[length, width]`: the tokens, then registers, which repeat from the start of the
    /// sequence.
    pub(super) fn forward(&self, tokens: &Tensor, length: i64) -> Tensor {
        let (given, registers) = (tokens.size()[1], self.registers.size()[0]);
        assert!(
            given <= length && length % registers == 0,
            "{given} tokens in a sequence of {length}, which must be a multiple of {registers}"
        );
        let filling = self.registers.repeat([length / registers, 1]).narrow(0, given, length - given);
        let mut hidden = Tensor::cat(&[tokens, &filling.unsqueeze(0)], 1);
        let rope = self.rope(length, tokens.device());
        for (attention, feed_forward) in &self.blocks {
            hidden += attention.forward(&rms_modulated(&hidden, EPS, None), &rope, &[]);
            hidden += feed_forward.forward(&rms_modulated(&hidden, EPS, None));
        }
        rms_modulated(&hidden, EPS, None).squeeze_dim(0)
    }

    fn rope(&self, length: i64, device: Device) -> Rope {
        let positions = Tensor::arange(length, (Kind::Float, Device::Cpu)) / self.base_length as f64;
        self.rotary.at(&positions.unsqueeze(-1), device)
    }
}
