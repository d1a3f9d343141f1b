//! LoRAs: small files that change a video model, named by a request.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::bounded;

/// Maximum number of LoRAs of one request.
pub const MAX_LORAS: u32 = 4;
/// Largest scale of a LoRA, and smallest with the opposite sign.
pub const MAX_LORA_SCALE: f64 = 10.0;
/// Maximum number of characters of a LoRA's name.
pub const MAX_LORA_NAME: usize = 200;
/// Longest list that is read; one that is longer than [`MAX_LORAS`] is refused with that limit.
const MAX_READ: usize = 64;

/// A LoRA that a request uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraChoice {
    /// Its name in `GET /loras`: the file's name without `.safetensors`.
    #[schema(min_length = 1, max_length = 200, example = "watercolour")]
    pub name: String,
    /// How strongly it is applied, -10 to 10. Default: 1.
    #[serde(default = "full_scale")]
    #[schema(minimum = -10.0, maximum = 10.0, default = 1.0)]
    pub scale: f64,
}

fn full_scale() -> f64 {
    1.0
}

/// A list that is not unreasonably long; `null` is empty.
pub(crate) fn choices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LoraChoice>, D::Error> {
    bounded::optional_list::<MAX_READ, _, _>(deserializer).map(Option::unwrap_or_default)
}

/// How the keys of a LoRA's file are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoraLayout {
    /// `transformer.<layer>.lora_A.weight`, with the layers' names of diffusers; also without `transformer.`.
    Diffusers,
    /// `diffusion_model.<layer>.lora_A.weight`, with the layers' names of the model's original program.
    Original,
    /// ComfyUI's: as `original`, with `lora_down`, `lora_up` and `alpha`.
    Comfy,
    /// kohya's: `lora_unet_<layer>.lora_down.weight`, with underscores in the layers' names.
    Kohya,
}

/// A LoRA that is installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Lora {
    /// The name for requests.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// Number of tensors in the file.
    pub keys: u64,
    /// How many of them the checkpoint has a layer for.
    pub fitting_keys: u64,
    /// Number of the checkpoint's layers that it changes.
    pub layers: u64,
    /// The ranks of its layers, each once, ascending.
    pub ranks: Vec<u64>,
    /// How its keys are named; absent if no key is one of a LoRA.
    pub layout: Option<LoraLayout>,
    /// Words that call it in a prompt, if the file says so.
    pub trigger: Option<String>,
    /// Its title, if the file has one.
    pub title: Option<String>,
    /// Why a request that names it is refused; absent if it can be used.
    pub error: Option<String>,
}

/// Answer of `GET /loras`, sorted by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoraList {
    /// The LoRAs in the service's folder.
    pub loras: Vec<Lora>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::GenerateRequest;

    fn loras(list: serde_json::Value) -> Result<Vec<LoraChoice>, String> {
        let request: Result<GenerateRequest, _> =
            serde_json::from_value(json!({"prompt": "a", "loras": list}));
        request.map(|request| request.loras).map_err(|error| error.to_string())
    }

    #[test]
    fn a_scale_is_one_unless_it_is_given() {
        let given = loras(json!([{"name": "a"}, {"name": "b", "scale": -0.5}])).unwrap();
        assert_eq!(
            given,
            [("a", 1.0), ("b", -0.5)].map(|(name, scale)| LoraChoice { name: name.into(), scale })
        );
        assert_eq!(loras(json!(null)), Ok(Vec::new()));
        assert_eq!(loras(json!([])), Ok(Vec::new()));
        let stored = serde_json::to_value(GenerateRequest { loras: given, ..Default::default() }).unwrap();
        assert_eq!(stored["loras"][0], json!({"name": "a", "scale": 1.0}));
    }

    #[test]
    fn lists_that_cannot_be_meant_are_refused_while_they_are_read() {
        for (list, words) in [
            (json!([{"scale": 1.0}]), "missing field `name`"),
            (json!([{"name": "a", "strength": 1.0}]), "unknown field `strength`"),
            (json!([{"name": "a", "scale": "1"}]), "invalid type"),
            (json!([{"name": "a", "scale": null}]), "invalid type"),
            (json!(["a"]), "invalid type"),
            (json!(vec![json!({"name": "a"}); 65]), "at most 64 items"),
        ] {
            let error = loras(list).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
