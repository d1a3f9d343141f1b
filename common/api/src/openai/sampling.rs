//! Fields that are a string or a list of strings.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::wire::TextOrList;

/// Stop strings: one, or a list of at most 4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Stop {
    /// One string.
    One(String),
    /// A list of strings.
    Many(Vec<String>),
}

impl Stop {
    /// All of them as a list.
    #[must_use]
    pub fn strings(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match TextOrList::read(deserializer, "a string or a list of strings")? {
            TextOrList::Text(text) => Self::One(text),
            TextOrList::List(texts) => Self::Many(texts),
        })
    }
}

/// One prompt, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PromptTexts {
    /// One string.
    One(String),
    /// A list of strings.
    Many(Vec<String>),
}

impl PromptTexts {
    /// All of them as a list.
    #[must_use]
    pub fn into_texts(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

impl<'de> Deserialize<'de> for PromptTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match TextOrList::read(deserializer, "a string or a list of strings")? {
            TextOrList::Text(text) => Self::One(text),
            TextOrList::List(texts) => Self::Many(texts),
        })
    }
}
