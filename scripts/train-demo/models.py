"""The text side and the transformer: tokenizer, UMT5, WanTransformer3DModel, scheduler, and their settings."""

from __future__ import annotations

import math

import torch
from diffusers import UniPCMultistepScheduler, WanTransformer3DModel
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

import prompts
from flow import attend
from vae import Z_DIM

# The length that WanPipeline pads the text to. The padding is part of the model: cross-attention sees it.
TEXT_LENGTH = 512
FLOW_SHIFT = 3.0

SPECIAL = ["<pad>", "</s>", "<unk>"]

TEXT_DIM = 96
TRANSFORMER = dict(
    patch_size=(1, 2, 2),
    num_attention_heads=6,
    attention_head_dim=32,
    in_channels=Z_DIM,
    out_channels=Z_DIM,
    text_dim=TEXT_DIM,
    freq_dim=256,
    ffn_dim=512,
    num_layers=6,
    cross_attn_norm=True,
    qk_norm="rms_norm_across_heads",
    eps=1e-6,
    rope_max_seq_len=1024,
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One id per word, </s> at the end, as UMT5's tokenizer does it."""
    names = dict(pad_token="<pad>", eos_token="</s>")
    return prompts.word_tokenizer(SPECIAL, ["$A", "</s>"], TEXT_LENGTH, "right", **names)


def build_text_encoder() -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=len(SPECIAL) + len(prompts.WORDS),
        d_model=TEXT_DIM,
        d_kv=24,
        d_ff=192,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        tie_word_embeddings=False,
        use_cache=False,
    )
    return UMT5EncoderModel(config)


def build_transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(**TRANSFORMER)


def build_scheduler() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        num_train_timesteps=1000,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=FLOW_SHIFT,
        solver_order=2,
        solver_type="bh2",
        predict_x0=True,
        final_sigmas_type="zero",
    )


class PlainAttention:
    """WanAttention for training on a CPU.

    For cross-attention over a shortened text, in which the last token represents all further padding tokens:
    they are equal, and attending `n` equal tokens is attending one of them with log(n) added to its score.
    So this computes what the pipeline computes with 512 tokens, at a fraction of the cost.
    """

    def __init__(self, text_tokens: int | None = None):
        self.bias = None
        if text_tokens is not None:
            self.bias = torch.zeros(1, 1, 1, text_tokens)
            self.bias[..., -1] = math.log(TEXT_LENGTH - text_tokens + 1)

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(source)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(source).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        if rotary_emb is not None:
            query, key = self.rotate(query, *rotary_emb), self.rotate(key, *rotary_emb)
        query, key = query.transpose(1, 2), key.transpose(1, 2)
        result = attend(query, key, value, self.bias)
        return attn.to_out[0](result.transpose(1, 2).flatten(2, 3))

    @staticmethod
    def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        even, odd = states.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = cos[..., 0::2].to(states.dtype), sin[..., 1::2].to(states.dtype)
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class TextToLatents(nn.Module):
    """Text encoder and transformer as they are trained: together, on short padded prompts."""

    MAX_TOKENS = 18

    def __init__(self):
        super().__init__()
        self.text_encoder = build_text_encoder()
        self.transformer = build_transformer()
        for block in self.transformer.blocks:
            block.attn1.set_processor(PlainAttention())
            block.attn2.set_processor(PlainAttention(self.MAX_TOKENS + 1))

    @torch.no_grad()
    def initialise(self) -> None:
        """Linears with variance 1 / fan-in, quiet residual outputs, an output of zero."""
        model = self.transformer
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(model.patch_embedding.weight.flatten(1))
        nn.init.zeros_(model.patch_embedding.bias)
        nn.init.normal_(model.condition_embedder.time_proj.weight, std=0.02)
        for block in model.blocks:
            block.scale_shift_table.zero_()
            # Gates of self-attention and feed-forward start half open.
            block.scale_shift_table[:, (2, 5)] = 0.5
            block.attn2.to_out[0].weight.mul_(0.5)
        model.scale_shift_table.zero_()
        nn.init.zeros_(model.proj_out.weight)

    def encode(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids [N, MAX_TOKENS] to embeddings [N, MAX_TOKENS + 1, dim], zero for padding."""
        mask = ids != 0
        states = self.text_encoder(ids, attention_mask=mask.long()).last_hidden_state
        return nn.functional.pad(states * mask.unsqueeze(-1), (0, 0, 0, 1))

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.transformer(latents, timestep, self.encode(ids), return_dict=False)[0]
