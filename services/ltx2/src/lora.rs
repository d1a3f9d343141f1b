//! What LoRAs call the layers of the transformer.

use videosdgx_diffusion::LoraNames;

/// Names in Lightricks' program, which ComfyUI has, too. The layers of blocks are called the same.
pub const LORA_NAMES: LoraNames = LoraNames {
    component: "transformer",
    original: &[
        ("proj_in", "patchify_proj"),
        ("audio_proj_in", "audio_patchify_proj"),
        ("time_embed", "adaln_single"),
        ("audio_time_embed", "audio_adaln_single"),
        ("prompt_adaln", "prompt_adaln_single"),
        ("audio_prompt_adaln", "audio_prompt_adaln_single"),
        ("av_cross_attn_video_scale_shift", "av_ca_video_scale_shift_adaln_single"),
        ("av_cross_attn_video_a2v_gate", "av_ca_a2v_gate_adaln_single"),
        ("av_cross_attn_audio_scale_shift", "av_ca_audio_scale_shift_adaln_single"),
        ("av_cross_attn_audio_v2a_gate", "av_ca_v2a_gate_adaln_single"),
    ],
};
