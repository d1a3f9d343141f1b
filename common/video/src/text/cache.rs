//! A cache of prompt embeddings.

use std::collections::VecDeque;

use tch::Tensor;

use super::EncodedPrompt;

/// An LRU cache of embeddings, bounded in bytes: a negative prompt, or a prompt tried with another seed, is encoded once,
/// even when the encoder was freed in between.
pub struct EmbeddingCache {
    /// The most recently used at the back.
    entries: VecDeque<(String, EncodedPrompt)>,
    bytes: u64,
    limit: u64,
}

impl EmbeddingCache {
    /// A cache of at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit }
    }

    /// The embedding of a cleaned prompt, if it is cached.
    pub fn get(&mut self, prompt: &str) -> Option<EncodedPrompt> {
        let at = self.entries.iter().position(|(known, _)| known == prompt)?;
        let entry = self.entries.remove(at)?;
        let found = entry.1.shallow_clone();
        self.entries.push_back(entry);
        Some(found)
    }

    /// Inserts an embedding and evicts the least recently used ones to stay within the limit.
    pub fn insert(&mut self, prompt: &str, encoded: &EncodedPrompt) {
        if self.get(prompt).is_some() {
            return;
        }
        self.bytes += size(&encoded.embedding);
        self.entries.push_back((prompt.to_owned(), encoded.shallow_clone()));
        while self.bytes > self.limit {
            let Some((_, dropped)) = self.entries.pop_front() else { break };
            self.bytes -= size(&dropped.embedding);
        }
    }

    /// Number of cached prompts.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn size(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn the_least_recently_used_is_evicted() {
        let mut cache = EmbeddingCache::new(3 * 40);
        let encoded = |value: i64| EncodedPrompt {
            embedding: Tensor::full([1, 10], value, (Kind::Float, Device::Cpu)),
            unknown_words: vec![value.to_string()],
            truncated: false,
        };
        for (index, prompt) in ["a", "b", "c"].iter().enumerate() {
            cache.insert(prompt, &encoded(index as i64));
        }
        assert_eq!(cache.get("a").expect("cached").unknown_words, ["0"]);
        cache.insert("d", &encoded(3));
        assert!(cache.get("b").is_none(), "least recently used");
        assert!(cache.get("a").is_some() && cache.get("c").is_some() && cache.get("d").is_some());
        cache.insert("a", &encoded(9));
        assert_eq!((cache.len(), cache.is_empty()), (3, false));
        let mut none = EmbeddingCache::new(0);
        none.insert("a", &encoded(1));
        assert!(none.is_empty());
    }
}
