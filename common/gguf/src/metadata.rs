//! Reading the metadata by key. A key that is not there and one of another type both give none; [`Gguf::lacks`] words
//! the error when it was needed.

use crate::{Array, Gguf, GgufError, Value};

impl Gguf {
    /// All metadata, by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// `general.architecture`, such as `llama` or `qwen3`.
    pub fn architecture(&self) -> Option<&str> {
        self.str("general.architecture")
    }

    /// The key of a setting of this architecture: `block_count` → `llama.block_count`.
    pub fn model_key(&self, setting: &str) -> String {
        format!("{}.{setting}", self.architecture().unwrap_or_default())
    }

    /// A string.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_str()
    }

    /// An integer of any type that is not negative.
    pub fn u64(&self, key: &str) -> Option<u64> {
        self.value(key)?.as_u64()
    }

    /// An integer of any type that fits into 32 bits without sign.
    pub fn u32(&self, key: &str) -> Option<u32> {
        self.u64(key)?.try_into().ok()
    }

    /// A floating-point number.
    pub fn f32(&self, key: &str) -> Option<f32> {
        self.value(key)?.as_f32()
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.value(key)?.as_bool()
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.value(key)?.as_array()? {
            Array::String(values) => Some(values),
            _ => None,
        }
    }

    /// An array of integers of any type that fit into `i32`.
    pub fn i32s(&self, key: &str) -> Option<Vec<i32>> {
        self.value(key)?.as_array()?.to_integers()
    }

    /// An array of `f32`.
    pub fn f32s(&self, key: &str) -> Option<&[f32]> {
        match self.value(key)?.as_array()? {
            Array::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The error of a model that cannot do without `key`; `wanted` says what it must be, such as "a number".
    pub fn lacks(&self, key: &str, wanted: &str) -> GgufError {
        let reason = match self.value(key) {
            None => format!("the metadata have no {key:?} ({wanted})"),
            Some(_) => format!("{key:?} of the metadata is not {wanted}"),
        };
        GgufError::invalid(self.path(), reason)
    }
}
