"""Text encoder, connectors and transformer as they are trained: together."""

from __future__ import annotations

import torch
from diffusers import LTX2VideoTransformer3DModel
from diffusers.models.transformers import transformer_ltx2 as ltx
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from torch import nn

from flow import attend
from ltx2 import models


class PlainAttention:
    """LTX2AudioVideoAttnProcessor for training on a CPU (split rotation, no mask)."""

    _attention_backend = None
    _parallel_config = None

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, query_rotary_emb=None, key_rotary_emb=None):
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(source)), attn.to_v(source)
        query, key, value = (x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (query, key, value))
        if query_rotary_emb is not None:
            query = self.rotate(query, *query_rotary_emb)
            key = self.rotate(key, *(query_rotary_emb if key_rotary_emb is None else key_rotary_emb))
        return attn.to_out[0](attend(query, key, value).transpose(1, 2).flatten(2))

    @staticmethod
    def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """[batch, heads, tokens, dim] by angles of [1, heads, tokens, dim / 2]."""
        first, second = states.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Joint(nn.Module):
    """Nothing is masked after the connectors: registers stand where the padding was."""

    PARTS = ("text_encoder", "connectors", "transformer")

    def __init__(self):
        super().__init__()
        self.tokenizer = models.tokenizer()
        self.text_encoder = models.text_encoder()
        del self.text_encoder.model.vision_tower, self.text_encoder.model.multi_modal_projector
        self.connectors = LTX2TextConnectors(**models.CONNECTORS)
        self.transformer = LTX2VideoTransformer3DModel(**models.TRANSFORMER)
        for module in self.transformer.modules():
            if isinstance(module, ltx.LTX2Attention):
                module.set_processor(PlainAttention())
        frames, side, heard = models.VIDEO_TOKENS[0], models.VIDEO_TOKENS[1], models.AUDIO_TOKENS
        # One row of positions serves the whole batch.
        self.coords = (
            self.transformer.rope.prepare_video_coords(1, frames, side, side, "cpu", fps=models.FPS),
            self.transformer.audio_rope.prepare_audio_coords(1, heard, "cpu"),
        )

    @torch.no_grad()
    def initialise(self) -> None:
        """Xavier linears, tables of zero with half-open gates (the default tables are noise of size 1), output zero."""
        model = self.transformer
        for part in (model, self.connectors):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        for module in model.modules():
            if isinstance(module, ltx.LTX2AdaLayerNormSingle):
                nn.init.normal_(module.linear.weight, std=0.02)
        for block in model.transformer_blocks:
            for table in (block.scale_shift_table, block.audio_scale_shift_table):
                table.zero_()
                table[(2, 5), :] = 0.5
            for table in (block.video_a2v_cross_attn_scale_shift_table, block.audio_a2v_cross_attn_scale_shift_table):
                table.zero_()
                table[4] = 0.3
            block.attn2.to_out[0].weight.mul_(0.5)
            block.audio_attn2.to_out[0].weight.mul_(0.5)
        for table in (model.scale_shift_table, model.audio_scale_shift_table):
            table.zero_()
        nn.init.zeros_(model.proj_out.weight)
        nn.init.zeros_(model.audio_proj_out.weight)

    def text(self, prompts: list[str]):
        tokens = self.tokenizer(prompts, padding="max_length", max_length=models.TEXT_LENGTH, return_tensors="pt")
        states = self.text_encoder.model.language_model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True
        ).hidden_states
        return self.connectors(torch.stack(states, -1).flatten(2, 3), tokens.attention_mask, padding_side="left")

    def forward(self, seen: torch.Tensor, heard: torch.Tensor, sigma: torch.Tensor, prompts: list[str]):
        for_video, for_audio, _ = self.text(prompts)
        time = sigma * 1000
        return self.transformer(
            hidden_states=seen,
            audio_hidden_states=heard,
            encoder_hidden_states=for_video,
            audio_encoder_hidden_states=for_audio,
            timestep=time,
            sigma=time,
            video_coords=self.coords[0],
            audio_coords=self.coords[1],
            use_cross_timestep=True,
            return_dict=False,
        )


def muon(name: str) -> bool:
    """Muon trains the blocks' matrices; embeddings, projections in and out and modulation get AdamW."""
    inside = ("transformer_blocks", "language_model.layers", "caption_projection")
    return any(part in name for part in inside) and "table" not in name
