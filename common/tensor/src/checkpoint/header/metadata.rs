//! `__metadata__` of a safetensors header: texts by name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::CheckpointError;

/// The texts of a safetensors file's `__metadata__` whose names `wanted` accepts; other entries take no memory.
///
/// # Errors
/// [`CheckpointError::Missing`] or [`CheckpointError::Invalid`] unless the header is JSON with texts in `__metadata__`.
pub fn read_metadata(
    path: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, String>, CheckpointError> {
    let file = File::open(path).map_err(|error| CheckpointError::io(path, error))?;
    let (header, ..) = super::json(path, &file)?;
    let mut parser = serde_json::Deserializer::from_slice(&header);
    let read = parser.deserialize_map(Header(&wanted)).and_then(|texts| parser.end().map(|()| texts));
    read.map_err(|error| CheckpointError::caused_by(path, error))
}

struct Header<'a, F>(&'a F);

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Header<'_, F> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "__metadata__" => texts = map.next_value_seed(Texts(self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(texts)
    }
}

struct Texts<'a, F>(&'a F);

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for Texts<'_, F> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Texts<'_, F> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if (self.0)(&name) {
                texts.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_texts_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |header: &str| {
            let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
            std::fs::write(file.path(), bytes).unwrap();
        };
        let read = || read_metadata(file.path(), |name| name.starts_with("ss_"));
        write(r#"{"__metadata__":{"ss_tag":"a","format":"pt","ss_rank":"4"},"x":{"any":[1]}}"#);
        let texts: Vec<_> = read().unwrap().into_iter().collect();
        assert_eq!(texts, [("ss_rank".into(), "4".into()), ("ss_tag".into(), "a".into())]);
        write("{}");
        assert!(read().unwrap().is_empty());
        for broken in [r#"{"__metadata__":{"ss_tag":1}}"#, r#"{"__metadata__":3}"#, "[]", "{}x"] {
            write(broken);
            assert!(matches!(read(), Err(CheckpointError::Invalid { .. })), "{broken}");
        }
    }
}
