//! PEFT's own scaling, which diffusers stores in a file's metadata.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// The metadata entry in which diffusers stores the adapter's configuration as JSON.
pub(super) const ADAPTER_METADATA: &str = "lora_adapter_metadata";

/// `alpha` of an adapter's configuration (`LoraConfig` of PEFT). Without one the factor is 1.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct AdapterScaling {
    lora_alpha: Option<f64>,
    /// Alphas of layers whose name is a key, or ends in one after a dot.
    alpha_pattern: BTreeMap<String, f64>,
    /// Divides by the rank's square root (rank-stabilised LoRA, arXiv 2312.03732).
    use_rslora: bool,
}

impl AdapterScaling {
    /// From the text of [`ADAPTER_METADATA`]: entries of `component` only.
    pub(super) fn parse(text: &str, component: &str) -> Result<Self, serde_json::Error> {
        let all: Map<String, Value> = serde_json::from_str(text)?;
        let own = all.into_iter().filter_map(|(name, value)| {
            Some((name.strip_prefix(component)?.strip_prefix('.')?.to_owned(), value))
        });
        serde_json::from_value(Value::Object(own.collect()))
    }

    /// What the product of rank `rank` of `layer` is multiplied by.
    pub(super) fn factor(&self, layer: &str, rank: i64) -> f64 {
        let is_meant = |pattern: &str| {
            let pattern = pattern.trim_start_matches('^');
            layer.strip_suffix(pattern).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let pattern = self.alpha_pattern.iter().find(|(pattern, _)| is_meant(pattern));
        let Some(alpha) = pattern.map(|(_, alpha)| *alpha).or(self.lora_alpha) else { return 1.0 };
        let rank = rank.max(1) as f64;
        alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_the_layers_or_the_adapters() {
        let text = r#"{"transformer.lora_alpha": 8, "transformer.r": 4, "text_encoder.lora_alpha": 1,
            "transformer.alpha_pattern": {"attn1.to_q": 2, "^proj_out": 16}}"#;
        let scaling = AdapterScaling::parse(text, "transformer").expect("parses");
        assert_eq!(scaling.factor("blocks.0.attn1.to_k", 4), 2.0);
        assert_eq!(scaling.factor("blocks.0.attn1.to_q", 4), 0.5);
        assert_eq!(scaling.factor("blocks.0.xattn1.to_q", 4), 2.0);
        assert_eq!(scaling.factor("proj_out", 4), 4.0);
        let stable = r#"{"transformer.lora_alpha": 8, "transformer.use_rslora": true}"#;
        assert_eq!(AdapterScaling::parse(stable, "transformer").expect("parses").factor("a", 16), 2.0);
        assert_eq!(AdapterScaling::parse("{}", "transformer").expect("parses").factor("a", 4), 1.0);
        assert!(AdapterScaling::parse(r#"{"transformer.lora_alpha": "a"}"#, "transformer").is_err());
    }
}
