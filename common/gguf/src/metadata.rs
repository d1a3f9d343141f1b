//! Typed access to the metadata by key. A missing key and a value of another type both give `None`;
//! [`Gguf::missing_key`] builds the error for a key that is required.

use crate::{Array, Gguf, GgufError, Value};

impl Gguf {
    /// All metadata entries, sorted by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, of any type.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The value of `general.architecture`, such as `llama` or `qwen3`.
    pub fn architecture(&self) -> Option<&str> {
        self.str("general.architecture")
    }

    /// The full key of an architecture-specific setting: `block_count` → `llama.block_count`.
    pub fn model_key(&self, setting: &str) -> String {
        format!("{}.{setting}", self.architecture().unwrap_or_default())
    }

    /// The value of `key` if it is a string.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_str()
    }

    /// The value of `key` if it is a non-negative integer of any type.
    pub fn u64(&self, key: &str) -> Option<u64> {
        self.value(key)?.as_u64()
    }

    /// The value of `key` if it is an integer of any type that fits into `u32`.
    pub fn u32(&self, key: &str) -> Option<u32> {
        self.u64(key)?.try_into().ok()
    }

    /// The value of `key` if it is a floating-point number, rounded to `f32`.
    pub fn f32(&self, key: &str) -> Option<f32> {
        self.value(key)?.as_f32()
    }

    /// The value of `key` if it is a boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.value(key)?.as_bool()
    }

    /// The value of `key` if it is an array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.value(key)?.as_array()? {
            Array::String(values) => Some(values),
            _ => None,
        }
    }

    /// The value of `key` if it is an array of integers, of any type, that all fit into `i32`.
    pub fn i32s(&self, key: &str) -> Option<Vec<i32>> {
        self.value(key)?.as_array()?.to_integers()
    }

    /// The value of `key` if it is an array of `f32`.
    pub fn f32s(&self, key: &str) -> Option<&[f32]> {
        match self.value(key)?.as_array()? {
            Array::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The error for a required `key` that is missing or of another type; `expected` describes the value, such as "a
    /// number".
    pub fn missing_key(&self, key: &str, expected: &str) -> GgufError {
        let reason = match self.value(key) {
            None => format!("the metadata has no {key:?} ({expected})"),
            Some(_) => format!("{key:?} of the metadata is not {expected}"),
        };
        GgufError::invalid(self.path(), reason)
    }
}
