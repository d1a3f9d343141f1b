//! Lists and maps whose number of entries is limited while they are read, so that a body of many small entries is refused before
//! it has become a much larger value in memory.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Maximum number of messages of a conversation, and of parts of a message.
pub const MAX_MESSAGES: usize = 8192;
/// Maximum number of tokens in `logit_bias`.
pub const MAX_BIASES: usize = 1024;

/// A list of at most `MAX` items.
pub(crate) fn list<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(ListVisitor::<MAX, T>(PhantomData))
}

/// A list of at most `MAX` items, or null.
pub(crate) fn optional_list<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<List<MAX, T>>::deserialize(deserializer)?.map(|list| list.0))
}

/// A map of at most `MAX` entries, or null.
pub(crate) fn optional_map<'de, const MAX: usize, T, D>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<Entries<MAX, T>>::deserialize(deserializer)?.map(|entries| entries.0))
}

/// The items of a list, at most `max`.
pub(crate) fn items<'de, T, A>(mut sequence: A, max: usize) -> Result<Vec<T>, A::Error>
where
    T: Deserialize<'de>,
    A: SeqAccess<'de>,
{
    let mut items = Vec::new();
    while items.len() < max {
        let Some(item) = sequence.next_element()? else { return Ok(items) };
        items.push(item);
    }
    match sequence.next_element::<IgnoredAny>()? {
        None => Ok(items),
        Some(_) => Err(A::Error::custom(format_args!("at most {max} items are allowed"))),
    }
}

struct List<const MAX: usize, T>(Vec<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Deserialize<'de> for List<MAX, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        list::<MAX, T, D>(deserializer).map(Self)
    }
}

struct ListVisitor<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for ListVisitor<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Vec<T>, A::Error> {
        items(sequence, MAX)
    }
}

struct Entries<const MAX: usize, T>(BTreeMap<String, T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Deserialize<'de> for Entries<MAX, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor::<MAX, T>(PhantomData))
    }
}

struct EntriesVisitor<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<MAX, T> {
    type Value = Entries<MAX, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        let mut count = 0;
        while let Some((key, value)) = map.next_entry()? {
            count += 1;
            if count > MAX {
                return Err(A::Error::custom(format_args!("at most {MAX} entries are allowed")));
            }
            entries.insert(key, value);
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use crate::{StreamGenerate, openai::ChatRequest};

    use super::*;

    #[test]
    fn the_entries_are_counted_while_they_are_read() {
        let message = r#"{"role":"user","content":"a"}"#;
        let chat = |messages: usize, more: &str| {
            let messages = vec![message; messages].join(",");
            serde_json::from_str::<ChatRequest>(&format!(r#"{{"messages":[{messages}]{more}}}"#))
        };
        assert_eq!(chat(MAX_MESSAGES, "").unwrap().messages.len(), MAX_MESSAGES);
        // The error comes before the end of the body is read.
        let error = chat(MAX_MESSAGES + 1, ", nonsense").unwrap_err().to_string();
        assert!(error.starts_with("at most 8192 items are allowed"), "{error}");
        let biases = |count: usize| {
            let entries: Vec<String> = (0..count).map(|id| format!(r#""{id}": 1"#)).collect();
            chat(1, &format!(r#", "logit_bias": {{{}}}"#, entries.join(",")))
        };
        assert_eq!(biases(MAX_BIASES).unwrap().logit_bias.unwrap().len(), MAX_BIASES);
        let error = biases(MAX_BIASES + 1).unwrap_err().to_string();
        assert!(error.starts_with("at most 1024 entries are allowed"), "{error}");
        assert_eq!(chat(1, r#", "logit_bias": null"#).unwrap().logit_bias, None);
        let parts = vec![r#"{"type":"text","text":""}"#; MAX_MESSAGES + 1].join(",");
        let body = format!(r#"{{"messages":[{{"role":"user","content":[{parts}]}}]}}"#);
        let error = serde_json::from_str::<StreamGenerate>(&body).unwrap_err().to_string();
        assert!(error.starts_with("at most 8192 items are allowed"), "{error}");
    }
}
