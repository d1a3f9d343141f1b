//! The published configurations of the families, and configurations that are rejected.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn llama() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 8192, "rope_theta": 100000, "tie_word_embeddings": true, "hidden_act": "silu",
    })
}

fn glm_flash() -> Value {
    json!({
        "model_type": "glm4_moe_lite", "vocab_size": 154880, "hidden_size": 2048, "intermediate_size": 10240,
        "moe_intermediate_size": 1536, "num_hidden_layers": 47, "num_attention_heads": 20,
        "num_key_value_heads": 20, "n_routed_experts": 64, "n_shared_experts": 1, "num_experts_per_tok": 4,
        "first_k_dense_replace": 1, "norm_topk_prob": true, "n_group": 1, "topk_group": 1,
        "routed_scaling_factor": 1.8, "kv_lora_rank": 512, "q_lora_rank": 768, "qk_nope_head_dim": 192,
        "qk_rope_head_dim": 64, "v_head_dim": 256, "rms_norm_eps": 1e-5, "max_position_embeddings": 202752,
        "rope_theta": 1000000, "rope_scaling": null, "num_nextn_predict_layers": 1, "tie_word_embeddings": false,
    })
}

fn glm() -> Value {
    json!({
        "model_type": "glm4_moe", "vocab_size": 151552, "hidden_size": 5120, "intermediate_size": 12288,
        "moe_intermediate_size": 1536, "num_hidden_layers": 92, "num_attention_heads": 96, "head_dim": 128,
        "num_key_value_heads": 8, "n_routed_experts": 160, "n_shared_experts": 1, "num_experts_per_tok": 8,
        "first_k_dense_replace": 3, "norm_topk_prob": true, "n_group": 1, "topk_group": 1, "use_qk_norm": true,
        "routed_scaling_factor": 2.5, "rms_norm_eps": 1e-5, "max_position_embeddings": 202752,
        "attention_bias": true, "partial_rotary_factor": 0.5, "rope_theta": 1000000, "num_nextn_predict_layers": 1,
    })
}

fn qwen_vl() -> Value {
    json!({
        "model_type": "qwen3_vl", "tie_word_embeddings": true, "vision_config": {"depth": 24},
        "text_config": {
            "model_type": "qwen3_vl_text", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
            "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "max_position_embeddings": 262144, "rms_norm_eps": 1e-6, "rope_theta": 5000000,
            "rope_scaling": {"mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"},
        },
    })
}

/// The published file of Gemma 3 12B has no more fields that matter.
fn gemma() -> Value {
    json!({
        "model_type": "gemma3", "vision_config": {"model_type": "siglip_vision_model"},
        "text_config": {
            "model_type": "gemma3_text", "hidden_size": 3840, "intermediate_size": 15360, "num_attention_heads": 16,
            "num_hidden_layers": 48, "num_key_value_heads": 8, "sliding_window": 1024,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
    })
}

fn gemma_text() -> Value {
    json!({
        "model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
        "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": null, "sliding_window": 512,
        "sliding_window_pattern": 6, "query_pre_attn_scalar": 256, "attn_logit_softcapping": null,
        "final_logit_softcapping": null,
    })
}

fn qwen_coder() -> Value {
    json!({
        "model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5472,
        "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
        "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true, "mlp_only_layers": [],
        "decoder_sparse_step": 1, "rms_norm_eps": 1e-6, "max_position_embeddings": 262144, "rope_theta": 10000000,
        "use_sliding_window": false, "sliding_window": null,
    })
}

#[test]
fn the_published_configurations_are_read() {
    let config = DecoderConfig::from_json(&llama()).expect("llama");
    let Attention::Grouped(grouped) = &config.attention else { panic!("grouped") };
    assert_eq!((grouped.heads, grouped.kv_heads, grouped.head_dim, grouped.qk_norm), (9, 3, 64, None));
    assert_eq!((config.cache_width(), config.rope.theta, config.tied_head), (384, 1e5, true));

    let config = DecoderConfig::from_json(&glm()).expect("glm");
    let Attention::Grouped(grouped) = &config.attention else { panic!("grouped") };
    assert!(grouped.qkv_bias && !grouped.output_bias && grouped.qk_norm == Some(1e-5));
    assert_eq!((config.rope.dim, config.rope.layout), (64, RopeLayout::Halves));
    assert!(matches!(config.layers[2], FeedForward::Dense { intermediate: 12288, .. }));
    let FeedForward::Sparse(sparse) = &config.layers[3] else { panic!("sparse") };
    assert_eq!((sparse.experts, sparse.top_k, sparse.shared_intermediate), (160, 8, Some(1536)));
    assert_eq!((config.layers.len(), config.extra_layers), (92, 1));

    let config = DecoderConfig::from_json(&glm_flash()).expect("glm flash");
    assert_eq!((config.cache_width() * 47 * 2, config.rope.layout), (54144, RopeLayout::Pairs));
    assert!(matches!(config.layers[0], FeedForward::Dense { .. }));
    assert!(matches!(config.layers[1], FeedForward::Sparse(_)));

    let config = DecoderConfig::from_json(&qwen_vl()).expect("qwen vl");
    assert_eq!((config.rope.sections, config.tied_head), (Some([24, 20, 20]), true));
    assert_eq!((config.cache_width() * 28 * 2, config.rope.theta), (114_688, 5e6));

    let config = DecoderConfig::from_json(&qwen_coder()).expect("qwen coder");
    assert_eq!(config.cache_width() * 48 * 2, 98_304);
    assert!(config.layers.iter().all(|layer| matches!(layer, FeedForward::Sparse(_))));
}

#[test]
fn gemma_is_read_with_the_defaults_that_its_files_leave_out() {
    let config = DecoderConfig::from_json(&gemma()).expect("gemma");
    assert_eq!((config.family, config.vocab, config.max_context), (Family::Gemma3, 262_208, 131_072));
    assert!(config.tied_head && config.vision.is_none() && config.block.output_norms);
    let Attention::Grouped(grouped) = &config.attention else { panic!("grouped") };
    assert_eq!((grouped.heads, grouped.kv_heads, grouped.head_dim), (16, 8, 256));
    assert_eq!((grouped.score_scale, grouped.qk_norm), (1.0 / 16.0, Some(1e-6)));
    assert_eq!((config.rope.theta, &config.rope.scaling), (1e6, &RopeScaling::Linear(8.0)));
    let sliding = config.sliding.expect("five of six layers");
    assert_eq!((sliding.window, sliding.rope.theta, &sliding.rope.scaling), (1024, 1e4, &RopeScaling::None));
    let full: Vec<usize> = (0..48).filter(|&layer| !sliding.layers[layer]).collect();
    assert_eq!((full, sliding.layers.len()), (vec![5, 11, 17, 23, 29, 35, 41, 47], 48));

    let config = DecoderConfig::from_json(&gemma_text()).expect("gemma text");
    assert_eq!((config.family, config.rope.scaling), (Family::Gemma3Text, RopeScaling::None));
    assert_eq!(config.sliding.expect("there").layers.iter().filter(|&&sliding| sliding).count(), 22);
}

#[test]
fn gemma_as_transformers_5_writes_it_is_the_same() {
    let expected = DecoderConfig::from_json(&gemma()).expect("gemma");
    let mut config = gemma();
    let text = &mut config["text_config"];
    text["rope_scaling"] = Value::Null;
    text["rope_parameters"] = json!({
        "full_attention": {"factor": 8.0, "rope_theta": 1e6, "rope_type": "linear"},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    });
    let kinds = (1..=48).map(|layer| if layer % 6 == 0 { "full_attention" } else { "sliding_attention" });
    text["layer_types"] = kinds.collect();
    assert_eq!(DecoderConfig::from_json(&config).expect("reads"), expected);
    config["tie_word_embeddings"] = json!(false);
    assert!(!DecoderConfig::from_json(&config).expect("reads").tied_head);
    config["text_config"]["layer_types"] = vec!["full_attention"; 48].into();
    assert_eq!(DecoderConfig::from_json(&config).expect("reads").sliding, None);
}

#[test]
fn both_spellings_of_rope_parameters_are_read() {
    let mut config = llama();
    config["rope_parameters"] = json!({"rope_theta": 7.0, "rope_type": "linear", "factor": 2.0});
    let rope = DecoderConfig::from_json(&config).expect("reads").rope;
    assert_eq!((rope.theta, rope.scaling), (7.0, RopeScaling::Linear(2.0)));
    let mut config = llama();
    config["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let rope = DecoderConfig::from_json(&config).expect("reads").rope;
    assert!(matches!(rope.scaling, RopeScaling::Llama3(ref scaling) if scaling.original_context == 8192.0));
}

#[test]
fn rope_scaling_beside_rope_parameters_is_used() {
    let mut config = llama();
    config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 1e6});
    config["rope_scaling"] = json!({"type": "linear", "factor": 4.0});
    let rope = DecoderConfig::from_json(&config).expect("reads").rope;
    assert_eq!((rope.theta, rope.scaling), (1e6, RopeScaling::Linear(4.0)));
    config["rope_scaling"] =
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024});
    let error = DecoderConfig::from_json(&config).expect_err("not implemented").to_string();
    assert!(error.contains("rope_scaling.rope_type is \"yarn\""), "{error}");
    for absent in [Value::Null, json!({})] {
        config["rope_scaling"] = absent;
        let rope = DecoderConfig::from_json(&config).expect("reads").rope;
        assert_eq!((rope.theta, rope.scaling), (1e6, RopeScaling::None));
    }
    let mut config = qwen_vl();
    let sections = config["text_config"]["rope_scaling"].clone();
    config["text_config"]["rope_parameters"] = sections;
    config["text_config"]["rope_scaling"] = json!({"rope_type": "linear", "factor": 2.0});
    let rope = DecoderConfig::from_json(&config).expect("reads").rope;
    assert_eq!((rope.sections, rope.scaling), (Some([24, 20, 20]), RopeScaling::Linear(2.0)));
}

#[rstest]
#[case::nameless(llama(), "rope_scaling", json!({"factor": 4.0}), "rope_scaling.factor is given without rope_type")]
#[case::nested(llama(), "rope_parameters", json!({"full_attention": {"rope_theta": 1e6}}), "rope_parameters.full_attention is given without")]
#[case::ntk(llama(), "rope_parameters", json!({"rope_type": "dynamic", "factor": 2.0}), "rope_parameters.rope_type is \"dynamic\"")]
#[case::absent(llama(), "hidden_size", Value::Null, "hidden_size is missing")]
#[case::zero(llama(), "num_hidden_layers", json!(0), "num_hidden_layers is 0, an integer from 1 to 512")]
#[case::huge(llama(), "vocab_size", json!(1u64 << 40), "vocab_size is 1099511627776")]
#[case::fraction(llama(), "hidden_size", json!(1.5), "hidden_size is 1.5")]
#[case::text(llama(), "hidden_size", json!("576"), "hidden_size is \"576\"")]
#[case::groups(llama(), "num_key_value_heads", json!(2), "num_key_value_heads is 2, which does not divide")]
#[case::activation(llama(), "hidden_act", json!("gelu"), "hidden_act is \"gelu\"")]
#[case::scaling(llama(), "rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "rope_scaling.rope_type is \"yarn\"")]
#[case::window(qwen_coder(), "use_sliding_window", json!(true), "use_sliding_window is true")]
#[case::too_many(qwen_coder(), "num_experts_per_tok", json!(200), "num_experts_per_tok is 200, more than the 128")]
#[case::no_groups(glm(), "n_group", json!(3), "n_group is 3, which does not divide 160")]
#[case::kinds(glm_flash(), "mlp_layer_types", json!(["dense"]), "mlp_layer_types is not a list of 47 kinds")]
#[case::vision(qwen_vl(), "vision_config", Value::Null, "vision_config is missing")]
#[case::gemma_activation(gemma_text(), "hidden_activation", json!("gelu"), "hidden_activation is \"gelu\", \"gelu_pytorch_tanh\" is supported")]
#[case::both_ways(gemma_text(), "use_bidirectional_attention", json!(true), "use_bidirectional_attention is true")]
#[case::score_cap(gemma_text(), "attn_logit_softcapping", json!(50.0), "attn_logit_softcapping is given")]
#[case::no_window(gemma_text(), "sliding_window", json!(0), "sliding_window is 0, an integer from 1")]
#[case::layer_count(gemma_text(), "layer_types", json!(["full_attention"]), "layer_types is not a list of 26 kinds")]
#[case::layer_kind(gemma_text(), "layer_types", json!(vec!["chunked_attention"; 26]), "layer_types has \"chunked_attention\"")]
#[case::gemma_rope(gemma_text(), "rope_parameters", json!({"sliding_attention": {"rope_type": "yarn"}}), "rope_parameters.rope_type is \"yarn\"")]
#[case::no_text(gemma(), "text_config", Value::Null, "text_config is missing")]
#[case::other(llama(), "model_type", json!("mamba"), "the architecture \"mamba\" is not supported")]
fn unsupported_configurations_are_rejected_by_field(
    #[case] mut config: Value,
    #[case] field: &str,
    #[case] value: Value,
    #[case] message: &str,
) {
    config[field] = value;
    let error = DecoderConfig::from_json(&config).expect_err("refused").to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn fields_of_parts_carry_their_path() {
    let mut config = qwen_vl();
    config["text_config"]["hidden_size"] = json!(-1);
    let error = DecoderConfig::from_json(&config).expect_err("refused").to_string();
    assert!(error.starts_with("text_config.hidden_size is -1"), "{error}");
}
