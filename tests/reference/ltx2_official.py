"""Names and shapes of the tensors of LTX-2, LTX-2.3 and LTX-2.5 at their official configurations, from diffusers' own classes without weights.

    python tests/reference/ltx2_official.py

Writes `tests/fixtures/ltx2-official/networks.json`. The configurations are those of diffusers' conversion script (`scripts/convert_ltx2_to_diffusers.py`).
2.5 has the connectors of 2.3; its text encoder has other sizes.
"""

import torch
from common import FIXTURES, collapsed, write_tensor_lists
from diffusers import LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2TextConnectors

TRANSFORMER = dict(rope_type="split", perturbed_attn=False)
MODULATED = dict(
    rope_type="split", gated_attn=True, cross_attn_mod=True, audio_gated_attn=True, audio_cross_attn_mod=True,
    use_prompt_embeddings=False, perturbed_attn=True,
)
CONNECTORS = dict(rope_type="split")
PER_MODALITY = dict(
    rope_type="split", video_connector_num_attention_heads=32, video_connector_num_layers=8, video_gated_attn=True,
    audio_connector_num_attention_heads=32, audio_connector_attention_head_dim=64, audio_connector_num_layers=8, audio_gated_attn=True,
    per_modality_projections=True, proj_bias=True,
)
NETWORKS = {
    "transformer-2.0": (LTX2VideoTransformer3DModel, TRANSFORMER),
    "transformer-2.3": (LTX2VideoTransformer3DModel, MODULATED),
    "transformer-2.5": (LTX2VideoTransformer3DModel, MODULATED | dict(ff_bias=False, use_keyframes_abs_pos_embedding=True)),
    "connectors-2.0": (LTX2TextConnectors, CONNECTORS),
    "connectors-2.3": (LTX2TextConnectors, PER_MODALITY),
}


def main() -> None:
    models = {}
    for name, (network, values) in NETWORKS.items():
        with torch.device("meta"):
            model = network(**values)
        shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        config = {key: value for key, value in model.config.items() if not key.startswith("_")}
        models[name] = {"config": config, "tensors": collapsed(shapes)}
        print(f"{name}: {len(shapes)} tensors, {sum(torch.Size(shape).numel() for shape in shapes.values()):,} parameters")
    write_tensor_lists(FIXTURES / "ltx2-official" / "networks.json", models)


if __name__ == "__main__":
    main()
